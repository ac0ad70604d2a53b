select
    {{ linq_source.linq_message_columns() }},
    deleted_at,
    synced_at
from {{ ref('int_linq__messages_placed') }}
where deleted_at is not null
