{# Fails with the rows of which a condition is not true; null passes. #}
{% test holds(model, column_name, condition) %}
select {{ column_name }}
from {{ model }}
where not ({{ condition }})
{% endtest %}
