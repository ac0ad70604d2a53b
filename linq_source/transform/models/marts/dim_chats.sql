with participants as (
    select chat_id, count(*) as participant_count
    from {{ ref('stg_linq__chats__chat_handles') }}
    -- Of API v3 the organisation's lines take part, too.
    where is_me is not true
    group by chat_id
),

lines as (
    select
        chat_id,
        count(*) as line_count,
        case when count(*) = 1 then min(phone_number) end as line_number
    from {{ ref('stg_linq__chats__phone_numbers') }}
    group by chat_id
),

messages as (
    select
        chat_id,
        min(sent_at) as first_message_at,
        max(sent_at) as last_message_at,
        count(*) as message_count,
        count(case when state = 'live' then 1 end) as live_message_count,
        count(case when direction = 'inbound' then 1 end) as inbound_message_count,
        count(case when direction = 'outbound' then 1 end) as outbound_message_count,
        count(distinct conversation_id) as conversation_count
    from {{ ref('fct_messages') }}
    group by chat_id
),

deleted as (
    select chat_id, count(*) as deleted_message_count
    from {{ ref('fct_deleted_messages') }}
    group by chat_id
)

select
    chats.id as chat_id,
    chats.display_name,
    chats.service,
    coalesce(chats.is_group, false) as is_group,
    case
        when chats.deleted_at is not null then 'deleted'
        when chats.expired_at is not null then 'expired'
        else 'live'
    end as state,
    coalesce(lines.line_count, 0) as line_count,
    lines.line_number,
    coalesce(participants.participant_count, 0) as participant_count,
    coalesce(messages.message_count, 0) as message_count,
    coalesce(messages.inbound_message_count, 0) as inbound_message_count,
    coalesce(messages.outbound_message_count, 0) as outbound_message_count,
    coalesce(messages.live_message_count, 0) as live_message_count,
    coalesce(deleted.deleted_message_count, 0) as deleted_message_count,
    chats.message_count as api_message_count,
    coalesce(messages.conversation_count, 0) as conversation_count,
    messages.first_message_at,
    messages.last_message_at
from {{ ref('stg_linq__chats') }} as chats
left join participants on participants.chat_id = chats.id
left join lines on lines.chat_id = chats.id
left join messages on messages.chat_id = chats.id
left join deleted on deleted.chat_id = chats.id
