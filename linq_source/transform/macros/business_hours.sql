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
  {%- if not days -%}
    {{ exceptions.raise_compiler_error("linq_business_days must have a day, a number from 1 (Monday) to 7") }}
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
