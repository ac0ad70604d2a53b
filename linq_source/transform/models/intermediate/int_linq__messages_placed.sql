-- Every message with its direction, its line, who it was exchanged with, and what became of it.
with lines as (
    select distinct phone_number as line_number
    from {{ ref('stg_linq__phone_numbers') }}
    where phone_number is not null
),

lines_of_chats as (
    select
        chat_id,
        case when count(*) = 1 then min(phone_number) end as only_line_number
    from {{ ref('stg_linq__chats__phone_numbers') }}
    group by chat_id
),

others_of_chats as (
    select
        handles.chat_id,
        case when count(*) = 1 then min(handles.phone_number) end as only_number
    from {{ ref('stg_linq__chats__chat_handles') }} as handles
    left join lines on lines.line_number = handles.phone_number
    where lines.line_number is null
    group by handles.chat_id
),

directed as (
    select
        messages.*,
        case
            when lines.line_number is not null then 'outbound'
            when messages.sent_from is null and messages.chat_handle_id is null then 'outbound'
            else 'inbound'
        end as direction
    from {{ ref('int_linq__messages') }} as messages
    left join lines on lines.line_number = messages.sent_from
),

placed as (
    select
        directed.id as message_id,
        directed.chat_id,
        directed.sent_at,
        directed.direction,
        case
            when directed.direction = 'outbound' and directed.sent_from is not null
            then directed.sent_from
            else lines_of_chats.only_line_number
        end as line_number,
        case
            when directed.direction = 'inbound' then directed.sent_from
            else others_of_chats.only_number
        end as contact_number,
        chats.service,
        coalesce(chats.is_group, false) as is_group,
        directed.text_length,
        directed.attachment_count,
        directed.reaction_count,
        directed.delivery_status,
        directed.delivered_at,
        directed.is_read,
        directed.edited_at,
        coalesce(directed.deleted_at, chats.deleted_at) as deleted_at,
        coalesce(directed.expired_at, chats.expired_at) as expired_at,
        directed.synced_at
    from directed
    left join {{ ref('stg_linq__chats') }} as chats on chats.id = directed.chat_id
    left join lines_of_chats on lines_of_chats.chat_id = directed.chat_id
    left join others_of_chats on others_of_chats.chat_id = directed.chat_id
)

select
    placed.message_id,
    placed.chat_id,
    placed.sent_at,
    {{ linq_source.linq_local_day('placed.sent_at') }} as sent_day,
    {{ linq_source.linq_weekday('placed.sent_at') }} as sent_weekday,
    {{ linq_source.linq_local_hour('placed.sent_at') }} as sent_hour,
    placed.direction,
    placed.line_number,
    placed.contact_number,
    names.full_name as contact_name,
    placed.service,
    placed.is_group,
    placed.text_length,
    placed.attachment_count > 0 as has_attachment,
    placed.attachment_count,
    placed.reaction_count,
    placed.delivery_status,
    placed.delivered_at,
    {{ linq_source.linq_seconds_between('placed.sent_at', 'placed.delivered_at') }} as delivery_time_s,
    placed.is_read,
    placed.edited_at,
    placed.deleted_at,
    placed.expired_at,
    placed.synced_at
from placed
left join {{ ref('int_linq__contact_names') }} as names
    on names.address = lower(placed.contact_number)
