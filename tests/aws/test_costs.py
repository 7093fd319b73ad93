"""What a fleet costs is computed, and the page says what comes out."""

import re
from pathlib import Path

from windflower.adapters.aws.costs import Bill, Prices, idle_day_bill, round_bill
from windflower.adapters.aws.template import Template

PAGE = Path(__file__).parents[2] / "docs" / "aws-costs.md"
FLEETS = (1_000, 100_000)
MEGABYTES = (0.1, 1.0, 10.0)
INTERVALS_S = (60, 300)
REQUESTS = ("message", "rule", "action", "write_unit", "read_unit", "s3_put", "s3_get")


def dollars(bill: Bill) -> float:
    return sum(Prices.load().of(bill).values())


def shown(amount: float) -> str:
    return f"{amount:,.2f}" if amount < 100 else f"{amount:,.0f}"


def rows_of(title: str) -> list[list[str]]:
    """Return the cells of the table under a heading, without its head."""
    section = PAGE.read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_pages_rounds_are_computed() -> None:
    computed = []
    for devices in FLEETS:
        bills = [round_bill(devices, int(mb * 1e6)) for mb in MEGABYTES]
        requests = {item: bills[0][item] for item in REQUESTS}
        totals = [shown(dollars(bill)) for bill in bills]
        computed.append([f"{devices:,}", shown(dollars(requests)), *totals])

    assert computed == rows_of("One round")


def test_the_pages_idle_days_are_computed() -> None:
    computed = [
        [f"{devices:,}"]
        + [shown(dollars(idle_day_bill(devices, interval_s=s))) for s in INTERVALS_S]
        for devices in FLEETS
    ]

    assert computed == rows_of("One day in which nothing runs")


def test_the_page_names_the_day_and_region_of_its_prices() -> None:
    prices, page = Prices.load(), PAGE.read_text()

    assert prices.date in page
    assert prices.region in page


def test_every_item_has_a_price_and_every_price_an_item() -> None:
    items = round_bill(1, 1).keys() | idle_day_bill(1, interval_s=60).keys()

    assert items | {"transition"} == Prices.load().dollars.keys()


def test_a_round_of_one_device_is_counted_by_hand() -> None:
    """Two commands in, out and acknowledged; two acks in and out; a model down, an update up."""
    bill = round_bill(1, 1_000_000, seconds=0)

    assert {"message": 10, "rule": 2, "action": 2, "s3_put": 2, "s3_get": 3} == {
        item: bill[item] for item in ("message", "rule", "action", "s3_put", "s3_get")
    }
    assert 0.001 == bill["egress_gb"]


def test_the_task_is_the_templates() -> None:
    task = Template.load().resolve(region="eu-west-1").resources["RunTask"]["Properties"]
    bill = round_bill(1, 1, seconds=3600)

    assert float(task["Cpu"]) / 1024 == bill["vcpu_hour"]
    assert float(task["Memory"]) / 1024 == bill["memory_gb_hour"]


def test_the_page_has_no_sum_that_nobody_computes() -> None:
    assert [] == re.findall(r"\$\d", PAGE.read_text())
