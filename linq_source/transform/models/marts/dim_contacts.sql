with lines as (
    select phone_number as line_number
    from {{ ref('stg_linq__phone_numbers') }}
    where phone_number is not null
),

numbers as (
    select phone_number as contact_number, chat_id
    from {{ ref('stg_linq__chats__chat_handles') }}
    where phone_number is not null

    union distinct

    select contact_number, chat_id
    from {{ ref('fct_messages') }}
    where contact_number is not null
),

chats as (
    select numbers.contact_number, count(*) as chat_count
    from numbers
    left join lines on lines.line_number = numbers.contact_number
    where lines.line_number is null
    group by numbers.contact_number
),

messages as (
    select
        contact_number,
        min(sent_at) as first_message_at,
        max(sent_at) as last_message_at,
        count(case when direction = 'inbound' then 1 end) as inbound_message_count,
        count(case when direction = 'outbound' then 1 end) as outbound_message_count,
        count(distinct conversation_id) as conversation_count
    from {{ ref('fct_messages') }}
    where contact_number is not null
    group by contact_number
)

select
    chats.contact_number,
    names.full_name as contact_name,
    names.company,
    chats.chat_count,
    coalesce(messages.inbound_message_count, 0) as inbound_message_count,
    coalesce(messages.outbound_message_count, 0) as outbound_message_count,
    coalesce(messages.conversation_count, 0) as conversation_count,
    case
        when messages.conversation_count = 1 then 'new'
        when messages.conversation_count > 1 then 'returning'
    end as relationship,
    messages.first_message_at,
    messages.last_message_at
from chats
left join messages on messages.contact_number = chats.contact_number
left join {{ ref('int_linq__contact_names') }} as names
    on names.address = lower(chats.contact_number)
