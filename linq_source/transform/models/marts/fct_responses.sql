-- Turns: where the message before an inbound one is not inbound, a turn begins; the first outbound
-- message after its last one answers it.
with messages as (
    select
        message_id,
        chat_id,
        is_group,
        sent_at,
        direction,
        line_number,
        contact_number,
        contact_name,
        lag(direction) over (partition by chat_id order by sent_at, message_id) as previous_direction
    from {{ ref('fct_messages') }}
),

numbered as (
    select
        *,
        -- An answer has the number of the turn that it answers, too.
        sum(
            case
                when direction = 'inbound' and coalesce(previous_direction, 'outbound') = 'outbound'
                then 1 else 0
            end
        ) over (
            partition by chat_id order by sent_at, message_id
            rows between unbounded preceding and current row
        ) as turn_number,
        row_number() over (partition by chat_id order by sent_at, message_id) as place
    from messages
),

turns as (
    select
        chat_id,
        turn_number,
        min(case when direction = 'inbound' then place end) as first_place,
        max(case when direction = 'inbound' then place end) as last_place,
        min(case when direction = 'outbound' then place end) as answer_place,
        count(case when direction = 'inbound' then 1 end) as message_count,
        count(distinct case when direction = 'inbound' then contact_number end) as sender_count
    from numbered
    where turn_number > 0
    group by chat_id, turn_number
),

clocked as (
    select
        turns.chat_id,
        turns.message_count,
        turns.sender_count,
        firsts.message_id as turn_id,
        firsts.is_group,
        firsts.contact_number,
        firsts.contact_name,
        firsts.sent_at as first_sent_at,
        lasts.message_id as last_message_id,
        lasts.sent_at as last_sent_at,
        answers.message_id as answer_message_id,
        answers.sent_at as answered_at,
        coalesce(answers.line_number, firsts.line_number) as line_number,
        {{ linq_source.linq_seconds_between('firsts.sent_at', 'answers.sent_at') }} as response_time_s,
        {{ linq_source.linq_local_seconds('firsts.sent_at') }} as first_local_s,
        {{ linq_source.linq_local_seconds('answers.sent_at') }} as answered_local_s
    from turns
    inner join numbered as firsts
        on firsts.chat_id = turns.chat_id and firsts.place = turns.first_place
    inner join numbered as lasts
        on lasts.chat_id = turns.chat_id and lasts.place = turns.last_place
    left join numbered as answers
        on answers.chat_id = turns.chat_id and answers.place = turns.answer_place
)

select
    turn_id,
    chat_id,
    is_group,
    line_number,
    contact_number,
    contact_name,
    message_count,
    sender_count,
    first_sent_at,
    {{ linq_source.linq_local_day('first_sent_at') }} as first_sent_day,
    {{ linq_source.linq_weekday('first_sent_at') }} as first_sent_weekday,
    {{ linq_source.linq_local_hour('first_sent_at') }} as first_sent_hour,
    last_message_id,
    last_sent_at,
    answer_message_id is not null as is_answered,
    answer_message_id,
    answered_at,
    response_time_s,
    {{ linq_source.linq_seconds_between('last_sent_at', 'answered_at') }} as response_time_from_last_s,
    case
        when answer_message_id is not null then
            -- Where clocks change in between, their difference is no time that has passed.
            greatest(0.0, least(response_time_s, round(
                1000 * (
                    {{ linq_source.linq_business_seconds('answered_local_s') }}
                    - {{ linq_source.linq_business_seconds('first_local_s') }}
                )
            ) / 1000))
    end as business_response_time_s,
    case when answer_message_id is null then first_sent_at end as open_since
from clocked
