with chats as (
    select phone_number_id, count(distinct chat_id) as chat_count
    from {{ ref('stg_linq__chats__phone_numbers') }}
    group by phone_number_id
),

messages as (
    select
        line_number,
        min(sent_at) as first_message_at,
        max(sent_at) as last_message_at,
        count(case when direction = 'inbound' then 1 end) as inbound_message_count,
        count(case when direction = 'outbound' then 1 end) as outbound_message_count
    from {{ ref('fct_messages') }}
    where line_number is not null
    group by line_number
),

turns as (
    select
        line_number,
        count(*) as turn_count,
        count(case when is_answered then 1 end) as answered_turn_count,
        avg(response_time_s) as average_response_time_s
    from {{ ref('fct_responses') }}
    where line_number is not null
    group by line_number
)

select
    lines.id as line_id,
    lines.phone_number as line_number,
    lines.forwarding_number,
    lines.response_rate as response_rate_percent,
    coalesce(chats.chat_count, 0) as chat_count,
    coalesce(messages.inbound_message_count, 0) as inbound_message_count,
    coalesce(messages.outbound_message_count, 0) as outbound_message_count,
    messages.first_message_at,
    messages.last_message_at,
    coalesce(turns.turn_count, 0) as turn_count,
    coalesce(turns.answered_turn_count, 0) as answered_turn_count,
    turns.average_response_time_s
from {{ ref('stg_linq__phone_numbers') }} as lines
left join chats on chats.phone_number_id = lines.id
left join messages on messages.line_number = lines.phone_number
left join turns on turns.line_number = lines.phone_number
