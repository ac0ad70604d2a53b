{# Variables as they go into SQL: what could mean something else there is refused. #}

{# The time zone, a literal. #}
{% macro linq_timezone() %}
  {%- set zone = var('linq_timezone') | string -%}
  {%- if not modules.re.fullmatch('[A-Za-z0-9_+/-]+', zone) -%}
    {{ exceptions.raise_compiler_error("linq_timezone must be a name of the IANA database such as Europe/Berlin, not " ~ zone) }}
  {%- endif -%}
  {{- return("'" ~ zone ~ "'") -}}
{% endmacro %}


{# The minutes of silence that end a conversation. #}
{% macro linq_silence_minutes() %}
  {%- set minutes = var('linq_session_silence_minutes') | string -%}
  {%- if not modules.re.fullmatch('[1-9][0-9]*', minutes) -%}
    {{ exceptions.raise_compiler_error("linq_session_silence_minutes must be a whole number from 1 on, not " ~ minutes) }}
  {%- endif -%}
  {{- return(minutes) -}}
{% endmacro %}


{# The second of the day that a variable gives as HH:MM. #}
{% macro linq_second_of_day(name) %}
  {%- set given = var(name) -%}
  {%- if given is integer and given >= 60 -%}
    {#- YAML takes 10:00 without quotes for 10 times 60 and 0. -#}
    {%- set given = '%02d:%02d' | format(given // 60, given % 60) -%}
  {%- endif -%}
  {%- set parts = modules.re.fullmatch('([01]?[0-9]|2[0-4]):([0-5][0-9])', given | string) -%}
  {%- set second = parts.group(1) | int * 3600 + parts.group(2) | int * 60 if parts else 86401 -%}
  {%- if second > 86400 -%}
    {{ exceptions.raise_compiler_error(name ~ " must be a time from 00:00 to 24:00 such as 09:00, not " ~ given) }}
  {%- endif -%}
  {{- return(second) -}}
{% endmacro %}
