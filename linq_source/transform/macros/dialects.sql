{# What databases say differently. `default` is DuckDB's SQL, which is mostly Postgres'. #}

{% macro linq_type(name) %}
  {{- return(adapter.dispatch('linq_type', 'linq_source')(name)) -}}
{% endmacro %}

{% macro default__linq_type(name) %}
  {{- return({
    'bigint': 'bigint', 'text': 'varchar', 'bool': 'boolean', 'double': 'double precision',
    'timestamp': 'timestamp with time zone',
  }[name]) -}}
{% endmacro %}

{% macro bigquery__linq_type(name) %}
  {{- return({
    'bigint': 'int64', 'text': 'string', 'bool': 'bool', 'double': 'float64',
    'timestamp': 'timestamp',
  }[name]) -}}
{% endmacro %}


{# Seconds from one instant to a later one, with its fractions. #}
{% macro linq_seconds_between(first, last) %}
  {{- return(adapter.dispatch('linq_seconds_between', 'linq_source')(first, last)) -}}
{% endmacro %}

{% macro default__linq_seconds_between(first, last) -%}
  date_diff('microsecond', {{ first }}, {{ last }}) / 1e6
{%- endmacro %}

{% macro bigquery__linq_seconds_between(first, last) -%}
  timestamp_diff({{ last }}, {{ first }}, microsecond) / 1e6
{%- endmacro %}

{% macro postgres__linq_seconds_between(first, last) -%}
  cast(extract(epoch from {{ last }} - {{ first }}) as double precision)
{%- endmacro %}


{# The wall clock of `linq_timezone` at an instant. #}
{% macro linq_local(instant) %}
  {{- return(adapter.dispatch('linq_local', 'linq_source')(instant)) -}}
{% endmacro %}

{% macro default__linq_local(instant) -%}
  ({{ instant }} at time zone {{ linq_source.linq_timezone() }})
{%- endmacro %}

{% macro bigquery__linq_local(instant) -%}
  datetime({{ instant }}, {{ linq_source.linq_timezone() }})
{%- endmacro %}


{% macro linq_local_day(instant) -%}
  cast({{ linq_source.linq_local(instant) }} as date)
{%- endmacro %}

{% macro linq_local_hour(instant) -%}
  cast(extract(hour from {{ linq_source.linq_local(instant) }}) as {{ linq_source.linq_type('bigint') }})
{%- endmacro %}


{# ISO weekday of a local day, 1 for Monday. #}
{% macro linq_weekday(instant) %}
  {{- return(adapter.dispatch('linq_weekday', 'linq_source')(instant)) -}}
{% endmacro %}

{% macro default__linq_weekday(instant) -%}
  cast(extract(isodow from {{ linq_source.linq_local(instant) }}) as bigint)
{%- endmacro %}

{% macro bigquery__linq_weekday(instant) -%}
  mod(extract(dayofweek from {{ linq_source.linq_local(instant) }}) + 5, 7) + 1
{%- endmacro %}


{# Seconds on the wall clock since Monday, 5 January 1970, 00:00. #}
{% macro linq_local_seconds(instant) %}
  {{- return(adapter.dispatch('linq_local_seconds', 'linq_source')(instant)) -}}
{% endmacro %}

{% macro default__linq_local_seconds(instant) -%}
  date_diff('microsecond', timestamp '1970-01-05 00:00:00', {{ linq_source.linq_local(instant) }}) / 1e6
{%- endmacro %}

{% macro bigquery__linq_local_seconds(instant) -%}
  datetime_diff({{ linq_source.linq_local(instant) }}, datetime '1970-01-05 00:00:00', microsecond) / 1e6
{%- endmacro %}

{% macro postgres__linq_local_seconds(instant) -%}
  cast(extract(epoch from {{ linq_source.linq_local(instant) }} - timestamp '1970-01-05 00:00:00') as double precision)
{%- endmacro %}
