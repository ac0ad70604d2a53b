{#
  Seconds of business hours from Monday, 5 January 1970, to a wall clock that is given as
  `linq_local_seconds`. The difference of two of them is the business time between two instants.
  Whole weeks have as many seconds as the hours of a week; of the week under way, each business
  day counts as far as it is over.
#}
{% macro linq_business_seconds(local_s) -%}
  {%- set begin_s = linq_source.linq_second_of_day('linq_business_start') -%}
  {%- set length_s = linq_source.linq_second_of_day('linq_business_end') - begin_s -%}
  {%- set days = var('linq_business_days') | unique | list -%}
  {%- if length_s <= 0 -%}
    {{ exceptions.raise_compiler_error("linq_business_end must be later than linq_business_start, within one day") }}
  {%- endif -%}
  {%- set week = "floor(" ~ local_s ~ " / 604800.0)" -%}
  ({{ week }} * {{ (days | length) * length_s }}.0
  {%- for day in days %}
    {%- if day not in [1, 2, 3, 4, 5, 6, 7] -%}
      {{ exceptions.raise_compiler_error("linq_business_days must be numbers from 1 (Monday) to 7, not " ~ day) }}
    {%- endif %}
    + least(greatest({{ local_s }} - {{ week }} * 604800.0 - {{ (day - 1) * 86400 + begin_s }}.0, 0.0), {{ length_s }}.0)
  {%- endfor %})
{%- endmacro %}


{# The second of the day that a variable gives as HH:MM. #}
{% macro linq_second_of_day(name) %}
  {%- set parts = modules.re.match("^([01]?[0-9]|2[0-4]):([0-5][0-9])$", var(name) | string) -%}
  {%- if not parts -%}
    {{ exceptions.raise_compiler_error(name ~ " must be a time such as 09:00, not " ~ var(name)) }}
  {%- endif -%}
  {{- return(parts.group(1) | int * 3600 + parts.group(2) | int * 60) -}}
{% endmacro %}
