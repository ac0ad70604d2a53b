-- One name for each number or address that a contact has: of several contacts, that of the one
-- changed last.
with addresses as (
    select id, full_name, company, updated_at, lower(phone_number) as address
    from {{ ref('stg_linq__contacts') }}
    where deleted_at is null

    union all

    select id, full_name, company, updated_at, lower(email) as address
    from {{ ref('stg_linq__contacts') }}
    where deleted_at is null
),

ranked as (
    select
        address,
        full_name,
        company,
        row_number() over (
            partition by address
            order by
                case when full_name is null then 1 else 0 end,
                coalesce(updated_at, cast('1970-01-01 00:00:00+00' as {{ linq_source.linq_type('timestamp') }})) desc,
                id
        ) as place
    from addresses
    where address is not null
)

select address, full_name, company
from ranked
where place = 1
