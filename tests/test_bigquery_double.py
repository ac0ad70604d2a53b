"""The double of BigQuery refuses what BigQuery refuses, and says what it does not know."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bigquery.catalog import BigQueryError
from tests.bigquery.definitions import Definitions
from tests.bigquery.front_end import COUNTS
from tests.bigquery.warehouse import Warehouse

pytestmark = pytest.mark.long

TABLE = """
    CREATE TABLE `p`.`d`.`{name}` (
      `id` INT64 NOT NULL OPTIONS (description='the key\\'s column'), `sent_at` TIMESTAMP NOT NULL,
      `text` STRING, `is_on` BOOL)
    PARTITION BY DATE(`sent_at`) CLUSTER BY `id` OPTIONS (description='what it is')"""
ROWS = """
    INSERT INTO `p`.`d`.`t` (id, sent_at, text) VALUES
      (1, TIMESTAMP '2026-01-01 10:00:00+00:00', 'one'),
      (2, TIMESTAMP '2026-01-02 10:00:00+00:00', 'two'),
      (3, TIMESTAMP '2026-01-03 10:00:00+00:00', NULL)"""

# What is no GoogleSQL, and the words of the double's own rules for it.
OF_THE_LANGUAGE = [
    ("SELECT 1 FROM p.d.t WHERE id = 'a'", "No matching signature"),
    ("SELECT 1 FROM p.d.t WHERE id IN ('a')", "No matching signature"),
    ("SELECT nonsense(1)", "does not know this: the function nonsense"),
    ("CREATE VIEW p.d.v AS SELECT nothing FROM p.d.t", "Unrecognized name"),
    (
        "MERGE INTO p.d.t AS t USING (SELECT 4 AS id) AS g ON t.id = g.id "
        "WHEN NOT MATCHED THEN INSERT (id, sent_at, text) "
        "VALUES (id, CURRENT_TIMESTAMP(), t.text)",
        "Unrecognized name",
    ),
    ("SELECT 1 FROM p.d.t WHERE sent_at > 1", "No matching signature"),
    ("SELECT 1 FROM p.d.t WHERE sent_at BETWEEN 1 AND 2", "No matching signature"),
    ("SELECT 1 FROM p.d.t WHERE text", "should return type BOOL"),
    ("SELECT nothing FROM p.d.t", "Unrecognized name"),
    ("SELECT x.id FROM p.d.t", "Unrecognized name"),
    ("SELECT `p`.d.t.id FROM p.d.t", "a path cannot qualify"),
    ("UPDATE p.d.t SET text = 'a' FROM p.d.s AS s WHERE p.d.t.id = s.id", "a path cannot"),
    ("UPDATE p.d.t SET text = 'a'", "must have a WHERE"),
    ("UPDATE p.d.t SET text = 1 WHERE TRUE", "cannot be assigned"),
    ("DELETE FROM p.d.t", "must have a WHERE"),
    ("INSERT INTO p.d.t (id, sent_at) VALUES (1)", "1 values for 2 columns"),
    ("INSERT INTO p.d.t (id, sent_at) VALUES ('1', CURRENT_TIMESTAMP())", "cannot be assigned"),
    ("SELECT 1 FROM other.d.t", "not this project"),
    ("SELEC 1", ""),
]
# What GoogleSQL takes and BigQuery's engine refuses.
OF_THE_ENGINE = [
    ("CREATE OR REPLACE VIEW p.d.t AS SELECT 1 AS id", "p:d.t is of another type"),
    ("UPDATE p.d.t SET id = NULL WHERE TRUE", "cannot be null"),
    (
        "UPDATE p.d.t AS t SET text = g.x FROM (SELECT 1 AS id, 'a' AS x UNION ALL "
        "SELECT 1, 'b') AS g WHERE t.id = g.id",
        "at most one source row",
    ),
    (
        "MERGE INTO p.d.t AS t USING (SELECT 1 AS id, 'a' AS x UNION ALL SELECT 1, 'b') AS g "
        "ON t.id = g.id WHEN MATCHED THEN UPDATE SET text = g.x",
        "at most one source row",
    ),
    ("INSERT INTO p.d.t (text) VALUES ('a')", "Required field id"),
    ("ALTER TABLE p.d.t ADD COLUMN more STRING NOT NULL", "Cannot add required"),
    ("SELECT 1; DECLARE x INT64", "beginning of a script"),
]


@pytest.fixture
def warehouse() -> Iterator[Warehouse]:
    warehouse = Warehouse("p")
    Definitions(warehouse.catalog, warehouse.cursor()).create_dataset("d")
    warehouse.run(f"{TABLE.format(name='t')}; {TABLE.format(name='s')}; {ROWS}")
    yield warehouse
    warehouse.close()


@pytest.mark.parametrize(("sql", "message"), [*OF_THE_LANGUAGE, *OF_THE_ENGINE])
def test_what_bigquery_refuses_is_refused(warehouse: Warehouse, sql: str, message: str) -> None:
    before = warehouse.rows("d", "t")
    with pytest.raises(BigQueryError) as caught:
        warehouse.run(sql)
    assert message in str(caught.value)
    assert caught.value.is_expected is False
    assert warehouse.rows("d", "t") == before


def test_googlesql_refuses_the_same_but_for_the_engine_s_rules(warehouse: Warehouse) -> None:
    pytest.importorskip("zetasql")
    for sql, _ in OF_THE_LANGUAGE + OF_THE_ENGINE:
        warehouse.google.refusals.clear()
        with pytest.raises(BigQueryError):
            warehouse.run(sql)
        assert bool(warehouse.google.refusals) == ((sql, _) in OF_THE_LANGUAGE), sql


def test_what_googlesql_alone_refuses_is_refused_in_its_words(warehouse: Warehouse) -> None:
    pytest.importorskip("zetasql")
    with pytest.raises(
        BigQueryError, match="GoogleSQL: Syntax error: Unexpected keyword AT"
    ) as caught:
        warehouse.run("SELECT 1 AS at")
    assert caught.value.is_expected is False


def test_results_are_compared_with_those_of_googlesql_s_evaluator(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("zetasql")
    before = COUNTS["compared"]
    for sql in (
        "SELECT t.*, s.is_on FROM `p`.`d`.`t` AS t LEFT JOIN `p`.`d`.`s` AS s ON s.id = t.id",
        "UPDATE `p`.`d`.`t` AS t SET text = g.x FROM (SELECT 1 AS id, 'new' AS x) AS g "
        "WHERE t.id = g.id",
        "DELETE FROM `p`.`d`.`t` AS t WHERE DATE(t.sent_at) = '2026-01-02'",
    ):
        warehouse.run(sql)
    assert COUNTS["compared"] == before + 3
    assert [(row["id"], row["text"]) for row in warehouse.rows("d", "t")] == [(1, "new"), (3, None)]
    monkeypatch.setattr("tests.bigquery.warehouse.duck_sql", lambda _: "SELECT 7 AS id")
    with pytest.raises(AssertionError, match=r"the double has .*7.*, GoogleSQL .*1.*3"):
        warehouse.run("SELECT id FROM `p`.`d`.`t`")


def test_what_is_not_there_is_told_as_bigquery_does(warehouse: Warehouse) -> None:
    for sql, what in (
        ("SELECT 1 FROM p.d.T", "Table p:d.T"),
        ("SELECT 1 FROM p.e.t", "Dataset p:e"),
        ("SELECT 1 FROM p.e.INFORMATION_SCHEMA.COLUMNS", "Dataset p:e"),
    ):
        with pytest.raises(BigQueryError, match=f"Not found: {what}") as caught:
            warehouse.run(sql)
        assert (caught.value.reason, caught.value.status) == ("notFound", 404)


def test_more_days_than_a_job_may_write_are_refused(warehouse: Warehouse) -> None:
    # Two days more than is allowed.
    days = "UNNEST(GENERATE_ARRAY(0, 4001)) AS n"
    first = "TIMESTAMP '2000-01-01'"
    sql = f"SELECT n AS id, TIMESTAMP_ADD({first}, INTERVAL n DAY) AS sent_at FROM {days}"
    with pytest.raises(BigQueryError, match="Too many partitions"):
        warehouse.run(f"INSERT INTO p.d.t (id, sent_at) {sql}")


def test_constants_and_variables_prune_days_and_subqueries_do_not(warehouse: Warehouse) -> None:
    for condition, days in (
        ("d.sent_at >= TIMESTAMP '2026-01-03 00:00:00+00:00'", 1),
        ("DATE(d.sent_at) IN UNNEST(days)", 2),
        ("DATE(d.sent_at) IN (SELECT DATE(s.sent_at) FROM p.d.s AS s)", 3),
        ("d.id = 1", 3),
    ):
        script = (
            "DECLARE days ARRAY<DATE> DEFAULT ["
            "DATE '2026-01-01', DATE '2026-01-02'];"
            f"DELETE FROM p.d.t AS d WHERE {condition} AND d.id > 5"
        )
        warehouse.run(script)
        scan = next(scan for scan in warehouse.statements[-1].scans if scan.table == "t")
        assert (len(scan.days), len(scan.all_days)) == (days, 3)


def test_tables_and_views_of_a_query_take_the_place_of_others(warehouse: Warehouse) -> None:
    for sql in (
        "CREATE OR REPLACE VIEW p.d.v AS SELECT id, LENGTH(text) AS n FROM p.d.t",
        "CREATE OR REPLACE VIEW p.d.v AS "
        "SELECT id, sent_at, LENGTH(text) AS n, NULL AS x FROM p.d.t",
        "CREATE OR REPLACE TABLE p.d.made PARTITION BY TIMESTAMP_TRUNC(sent_at, DAY) CLUSTER BY id "
        "AS (SELECT *, id / 2 AS half FROM p.d.v WHERE n IS NOT NULL)",
    ):
        warehouse.run(sql)
    tables = warehouse.catalog.datasets["d"]
    assert {name: table.is_view for name, table in tables.items()} == {
        "t": False, "s": False, "v": True, "made": False,
    }  # fmt: skip
    made = tables["made"]
    assert (made.partition_by, made.cluster_by) == ("sent_at", ("id",))
    assert {column.name: column.type for column in made.columns.values()} == {
        "id": "INT64", "sent_at": "TIMESTAMP", "n": "INT64", "x": "INT64", "half": "FLOAT64",
    }  # fmt: skip
    assert [(row["id"], row["n"], row["half"]) for row in warehouse.rows("d", "made")] == [
        (1, 3, 0.5), (2, 3, 1.0),
    ]  # fmt: skip


def test_sunday_is_the_first_weekday(warehouse: Warehouse) -> None:
    day = "EXTRACT(DAYOFWEEK FROM DATE '2026-03-01') + 1"
    assert warehouse.run(f"SELECT {day}, EXTRACT(DAYOFWEEK FROM sent_at) FROM d.t").rows[0] == (
        2,
        5,
    )
