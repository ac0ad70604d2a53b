{# Fails with the rows whose value is less than another column's; null passes. #}
{% test not_before(model, column_name, other) %}
select {{ column_name }}, {{ other }}
from {{ model }}
where {{ column_name }} < {{ other }}
{% endtest %}
