{{ config(
    materialized='incremental',
    unique_key='id',
    incremental_strategy='merge' if target.type == 'bigquery' else 'delete+insert',
    on_schema_change='fail',
    pre_hook="{{ linq_source.linq_forget_missing(this) }}",
    partition_by={'field': 'sent_at', 'data_type': 'timestamp'} if target.type == 'bigquery' else none,
    cluster_by=['chat_id'] if target.type == 'bigquery' else none,
) }}
-- What is expensive to know of each message, and depends on it and its children alone. Names,
-- lines and time zones come later, so that a change of them needs no full refresh. A row is made
-- again when it was loaded again or marked, whichever run did that: runs of several shards do not
-- end in the order of their instants.
with messages as (
    select source_rows.*
    from {{ ref('stg_linq__chat_messages') }} as source_rows
    {%- if is_incremental() %}
    left join {{ this }} as known on known.id = source_rows.id
    where known.id is null
        or known.synced_at <> source_rows.synced_at
        or known.deleted_at is distinct from source_rows.deleted_at
        or known.expired_at is distinct from source_rows.expired_at
    {%- endif %}
),

attachments as (
    select chat_message_id, count(*) as attachment_count
    from {{ ref('stg_linq__chat_messages__attachments') }}
    group by chat_message_id
),

reactions as (
    select chat_message_id, count(*) as reaction_count
    from {{ ref('stg_linq__chat_messages__reactions') }}
    group by chat_message_id
)

select
    messages.id,
    messages.chat_id,
    -- Of API v3 it is null until the message is sent, and if it failed.
    coalesce(
        messages.sent_at, cast(messages.created_at as {{ linq_source.linq_type('timestamp') }})
    ) as sent_at,
    messages.sent_from,
    -- Of API v3 the organisation has a handle, too.
    case when messages.is_from_me is not true then messages.chat_handle_id end as chat_handle_id,
    coalesce(length(messages.text), 0) as text_length,
    coalesce(attachments.attachment_count, 0) as attachment_count,
    coalesce(reactions.reaction_count, 0) as reaction_count,
    messages.delivery_status,
    messages.delivered_at,
    messages.is_read,
    messages.edited_at,
    messages.deleted_at,
    messages.expired_at,
    messages.synced_at
from messages
left join attachments on attachments.chat_message_id = messages.id
left join reactions on reactions.chat_message_id = messages.id
