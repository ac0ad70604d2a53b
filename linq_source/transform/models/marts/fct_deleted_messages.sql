select
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
    reaction_count,
    deleted_at,
    synced_at
from {{ ref('int_linq__messages_placed') }}
where deleted_at is not null
