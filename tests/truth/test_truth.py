"""Whatever is asked, however impatiently, and whatever is lost: what is answered is true.

``make truth`` makes 2,000 requests; these few are for every day.
"""

import secrets
from pathlib import Path

import pytest
from tests.together.processes import Nursery
from tests.together.shop import Templates
from tests.truth.client import Attempt
from tests.truth.judge import Judge
from tests.truth.run import open_shop, run

from devkit.servers import PostgresServer, RedisServer

REQUESTS = 120


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_answer_is_true_and_an_untrue_one_would_be_noticed(
    tmp_path: Path,
    nursery: Nursery,
    templates: Templates,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
) -> None:
    seed = secrets.randbelow(2**31)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    with open_shop(
        tmp_path,
        nursery=nursery,
        postgres=postgres_server,
        redis_server=redis_server,
        templates=templates,
    ) as (shop, proxies):
        verdict = run(shop, proxies, seed=seed, requests=REQUESTS)
        assert verdict.faults == [], verdict
        assert verdict.commits_lost > 0
        (written, *_) = (str(row["user_id"]) for row in shop.orders().values())
        lies = [
            Attempt("create", written, status=503),
            Attempt("create", written, status=422),
            Attempt("create", "nobody", status=201),
            Attempt("patch", "no order 5", status=204),
            Attempt("create", written, status=202, operation="/operations/x", page=404),
            Attempt("invoice", "nobody", status=500),
        ]
        judge = Judge(shop)
        assert [bool(judge.faults([lie])) for lie in lies] == [True] * len(lies)
