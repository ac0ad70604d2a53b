with messages as (
    select
        *,
        case
            when delivered_at is not null or delivery_status = 'delivered' then 'delivered'
            when delivery_status is null or delivery_status = 'pending' then 'pending'
            else 'failed'
        end as outcome
    from {{ ref('fct_messages') }}
    where direction = 'outbound'
)

select
    sent_day,
    line_number,
    service,
    count(*) as sent_count,
    count(case when outcome = 'delivered' then 1 end) as delivered_count,
    count(case when outcome = 'delivered' and is_read then 1 end) as read_count,
    count(case when outcome = 'pending' then 1 end) as pending_count,
    count(case when outcome = 'failed' then 1 end) as failed_count,
    avg(delivery_time_s) as average_delivery_time_s
from messages
group by sent_day, line_number, service
