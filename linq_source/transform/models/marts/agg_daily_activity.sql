with messages as (
    select
        sent_day,
        line_number,
        count(*) as message_count,
        count(case when direction = 'inbound' then 1 end) as inbound_message_count,
        count(case when direction = 'outbound' then 1 end) as outbound_message_count,
        count(distinct chat_id) as active_chat_count,
        count(distinct case when direction = 'inbound' then contact_number end) as sender_count,
        cast(sum(attachment_count) as {{ linq_source.linq_type('bigint') }}) as attachment_count,
        cast(sum(reaction_count) as {{ linq_source.linq_type('bigint') }}) as reaction_count
    from {{ ref('fct_messages') }}
    group by sent_day, line_number
)

select
    sent_day as activity_day,
    line_number,
    message_count,
    inbound_message_count,
    outbound_message_count,
    active_chat_count,
    sender_count,
    attachment_count,
    reaction_count
from messages
