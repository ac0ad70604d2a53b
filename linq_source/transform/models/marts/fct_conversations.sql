with messages as (
    select
        *,
        row_number() over (
            partition by conversation_id order by sent_at, message_id
        ) as place
    from {{ ref('fct_messages') }}
)

select
    conversation_id,
    min(chat_id) as chat_id,
    max(case when place = 1 then direction end) as started_by,
    min(sent_at) as started_at,
    min(sent_day) as started_day,
    max(case when place = 1 then sent_weekday end) as started_weekday,
    max(case when place = 1 then sent_hour end) as started_hour,
    max(sent_at) as ended_at,
    {{ linq_source.linq_seconds_between('min(sent_at)', 'max(sent_at)') }} as duration_s,
    count(*) as message_count,
    count(case when direction = 'inbound' then 1 end) as inbound_message_count,
    count(case when direction = 'outbound' then 1 end) as outbound_message_count,
    count(distinct case when direction = 'inbound' then contact_number end) as sender_count
from messages
group by conversation_id
