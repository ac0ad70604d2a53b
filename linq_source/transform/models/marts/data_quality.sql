with chats as (
    select
        count(*) as chat_count,
        count(case when live_message_count = api_message_count then 1 end) as complete_chat_count,
        cast(sum(live_message_count) as {{ linq_source.linq_type('bigint') }}) as live_message_count,
        cast(sum(api_message_count) as {{ linq_source.linq_type('bigint') }}) as api_message_count
    from {{ ref('dim_chats') }}
    where state = 'live'
),

messages as (
    select count(case when state = 'expired' then 1 end) as expired_message_count
    from {{ ref('fct_messages') }}
),

deleted as (
    select count(*) as deleted_message_count
    from {{ ref('fct_deleted_messages') }}
),

-- Rows of earlier versions have no event, and none of them tells a gap.
windows as (
    select
        count(*) as window_count,
        count(case when event = 'gap' then 1 end) as gap_count,
        count(case when event = 'failed' then 1 end) as failed_window_count,
        count(
            case when coalesce(event, 'read') = 'read' and verified = false then 1 end
        ) as unverified_window_count
    from {{ ref('stg_linq__sync_windows') }}
),

rejected as (
    select count(*) as rejected_record_count
    from {{ ref('stg_linq__rejected_records') }}
),

runs as (
    select
        *,
        row_number() over (order by synced_at desc, bound desc) as place
    from {{ ref('stg_linq__sync_runs') }}
),

last_run as (
    select
        max(synced_at) as last_run_at,
        max(bound) as last_bound,
        (
            select oldest_check from runs
            where covered is not null
            order by synced_at desc, bound desc
            limit 1
        ) as oldest_check,
        max(chats_failed) as last_run_failed_chat_count,
        max(windows_unverified) as last_run_unverified_window_count
    from runs
    where place = 1
)

select
    current_timestamp as built_at,
    last_run.last_run_at,
    last_run.last_bound,
    {{ linq_source.linq_seconds_between('last_run.last_run_at', 'current_timestamp') }} as lag_s,
    last_run.oldest_check,
    last_run.last_run_failed_chat_count,
    last_run.last_run_unverified_window_count,
    chats.chat_count,
    chats.complete_chat_count,
    coalesce(chats.live_message_count, 0) as live_message_count,
    coalesce(chats.api_message_count, 0) as api_message_count,
    case
        when chats.api_message_count > 0
        then cast(100.0 * chats.live_message_count / chats.api_message_count as {{ linq_source.linq_type('double') }})
    end as coverage_percent,
    messages.expired_message_count,
    deleted.deleted_message_count,
    windows.window_count,
    windows.unverified_window_count,
    windows.failed_window_count,
    windows.gap_count,
    rejected.rejected_record_count
from chats
cross join messages
cross join deleted
cross join windows
cross join rejected
cross join last_run
