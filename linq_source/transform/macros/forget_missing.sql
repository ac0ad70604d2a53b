{# Removes rows from an incremental table whose message was erased (`linq-source forget`). #}
{% macro linq_forget_missing(relation) %}
  {%- if is_incremental() -%}
    delete from {{ relation }}
    where id not in (select id from {{ ref('stg_linq__chat_messages') }})
  {%- endif -%}
{% endmacro %}
