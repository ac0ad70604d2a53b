{# What `fct_messages` and `fct_deleted_messages` have in common. #}
{% macro linq_message_columns() -%}
    message_id,
    chat_id,
    sent_at,
    sent_day,
    sent_weekday,
    sent_hour,
    direction,
    line_number,
    contact_number,
    contact_name,
    service,
    is_group,
    text_length,
    has_attachment,
    attachment_count,
    reaction_count
{%- endmacro %}
