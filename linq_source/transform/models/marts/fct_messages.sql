{{ config(
    partition_by={'field': 'sent_at', 'data_type': 'timestamp'} if target.type == 'bigquery' else none,
    cluster_by=['chat_id'] if target.type == 'bigquery' else none,
) }}
with messages as (
    select
        *,
        lag(sent_at) over (partition by chat_id order by sent_at, message_id) as previous_sent_at
    from {{ ref('int_linq__messages_placed') }}
    where deleted_at is null
),

openings as (
    select
        *,
        case
            when previous_sent_at is null then message_id
            when {{ linq_source.linq_seconds_between('previous_sent_at', 'sent_at') }}
                > {{ linq_source.linq_silence_minutes() }} * 60 then message_id
        end as opening_id
    from messages
),

numbered as (
    select
        *,
        count(opening_id) over (
            partition by chat_id order by sent_at, message_id
            rows between unbounded preceding and current row
        ) as conversation_number
    from openings
)

select
    {{ linq_source.linq_message_columns() }},
    max(opening_id) over (partition by chat_id, conversation_number) as conversation_id,
    delivery_status,
    delivered_at,
    delivery_time_s,
    is_read,
    edited_at,
    case when expired_at is null then 'live' else 'expired' end as state,
    expired_at,
    synced_at
from numbered
