with reactions as (
    select
        {{ linq_source.linq_local_day('coalesce(reactions.sent_at, messages.sent_at)') }} as reaction_day,
        reactions.reaction,
        case when reactions.is_from_me then 'outbound' else 'inbound' end as direction,
        reactions.chat_message_id,
        messages.chat_id
    from {{ ref('stg_linq__chat_messages__reactions') }} as reactions
    inner join {{ ref('fct_messages') }} as messages
        on messages.message_id = reactions.chat_message_id
)

select
    reaction_day,
    reaction,
    direction,
    count(*) as reaction_count,
    count(distinct chat_message_id) as message_count,
    count(distinct chat_id) as chat_count
from reactions
group by reaction_day, reaction, direction
