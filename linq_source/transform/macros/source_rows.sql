{#
  The rows of a source with all its declared columns, whatever is really there: a table that does
  not exist is empty, a column that an earlier version did not load is null. Tombstones are left
  out. With `linq_lake` the rows are those of the lake's current state, or of its logs.

  Ids are numbers of API v2 and texts of v3: those of a table that is not there have the type of
  messages' ids.
#}
{% macro linq_rows(name) %}
  {%- set relation = source('linq', name) -%}
  {%- if not execute -%}
    {{- return('select * from ' ~ relation) -}}
  {%- endif -%}
  {%- set declared = linq_source.linq_declared(name) -%}
  {%- set found = linq_source.linq_found(name, relation) -%}
  {%- set messages = found -%}
  {%- if not found.columns and name != 'chat_messages' -%}
    {%- set messages = linq_source.linq_found('chat_messages', source('linq', 'chat_messages')) -%}
  {%- endif -%}
  {%- if not messages.columns -%}
    {{ exceptions.raise_compiler_error("there are no messages in " ~ (var('linq_lake') or source('linq', 'chat_messages')) ~ ": load them with `linq-source run`, or set the variables linq_dataset and linq_database") }}
  {%- endif -%}
  select
  {%- for column in declared.values() if column.name != '_tombstone' %}
    {% if column.name in found.columns -%}
      {{ adapter.quote(column.name) }}
    {%- elif not found.columns and (column.name in ['chat_id', 'chat_message_id'] or column.data_type == 'bigint' and modules.re.search('(^|_)id$', column.name)) -%}
      id as {{ adapter.quote(column.name) }}
    {%- else -%}
      cast(null as {{ linq_source.linq_type(column.data_type) }}) as {{ adapter.quote(column.name) }}
    {%- endif -%}
    {%- if not loop.last %},{% endif %}
  {%- endfor %}
  {%- if not found.columns %}
  from {{ messages.relation }}
  where 1 = 0
  {%- else %}
  from {{ found.relation }}
  {%- if '_tombstone' in found.columns %}
  where coalesce(_tombstone, false) = false
  {%- endif %}
  {%- endif %}
{% endmacro %}


{# The columns of a source as its description declares them, by name. #}
{% macro linq_declared(name) %}
  {%- for node in graph.sources.values() if node.source_name == 'linq' and node.name == name and node.package_name == 'linq_source' -%}
    {{- return(node.columns) -}}
  {%- endfor -%}
{% endmacro %}


{# What there is of a source: what to select from, and the names of its columns. #}
{% macro linq_found(name, relation) %}
  {%- if var('linq_lake') -%}
    {%- set files = linq_source.linq_lake_files(name) -%}
    {%- if run_query("select count(*) from glob(" ~ files ~ ")").columns[0].values()[0] == 0 -%}
      {{- return({'relation': none, 'columns': []}) -}}
    {%- endif -%}
    {%- set rows = "read_parquet(" ~ files ~ ", union_by_name = true, hive_partitioning = false)" -%}
    {{- return({'relation': rows, 'columns': run_query('describe select * from ' ~ rows).columns[0].values() | list}) -}}
  {%- endif -%}
  {%- set there = load_relation(relation) -%}
  {%- if there is none -%}
    {{- return({'relation': none, 'columns': []}) -}}
  {%- endif -%}
  {{- return({'relation': relation, 'columns': adapter.get_columns_in_relation(there) | map(attribute='name') | list}) -}}
{% endmacro %}


{# The pattern of a source's files in the lake, as a literal: whatever characters its path has. #}
{% macro linq_lake_files(name) %}
  {%- set folder = modules.re.sub('([*?[])', '[\\1]', var('linq_lake').rstrip('/')) -%}
  {%- set is_log = name in ['sync_windows', 'sync_runs', 'rejected_records'] -%}
  {%- set files = folder ~ ('/' if is_log else '/current/') ~ name ~ '/**/*.parquet' -%}
  {{- return("'" ~ files | replace("'", "''") ~ "'") -}}
{% endmacro %}


{# The instant of the newest run in the ledger; `relation` is any source of the same dataset. #}
{% macro linq_newest_run(relation) -%}
  select max(synced_at) from
  {% if var('linq_lake') -%}
    read_parquet({{ linq_source.linq_lake_files('sync_runs') }}, union_by_name = true)
  {%- else -%}
    {{ relation.incorporate(path={'identifier': 'sync_runs'}) }}
  {%- endif %}
{%- endmacro %}
