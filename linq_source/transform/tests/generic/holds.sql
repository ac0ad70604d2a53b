{# Fails with the rows that have a value although a condition is not true. #}
{% test holds(model, column_name, condition) %}
select {{ column_name }}
from {{ model }}
where {{ column_name }} is not null and not ({{ condition }})
{% endtest %}
