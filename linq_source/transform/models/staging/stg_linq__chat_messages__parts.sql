-- A child row is current when the run that loaded it is the one that last loaded its message.
with children as (
    {{ linq_source.linq_rows('chat_messages__parts') }}
)

select children.*
from children
inner join {{ ref('stg_linq__chat_messages') }} as messages
    on messages.id = children.chat_message_id
    and messages.synced_at = children.synced_at
