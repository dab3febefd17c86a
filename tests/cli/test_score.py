"""`saetools score`: names of a run against held-out documents, with and without a judge."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from saetools.naming.scores import ScoreTable


@pytest.fixture
def named(cli, trained: Path) -> Path:
    result = cli("name", trained, "--quiet")
    assert result.exit_code == 0, result.output
    return trained


@pytest.fixture
def server():
    """Speaks OpenAI's protocol and says 1 of every example; counts how often it was asked."""

    class Says(BaseHTTPRequestHandler):
        asked = 0

        def do_POST(self):
            type(self).asked += 1
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            n = len(re.findall(r"^Example \d+:", body["messages"][1]["content"], flags=re.M))
            message = {"role": "assistant", "content": str([1] * n)}
            answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
            answer |= {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *words):
            """Say nothing."""

    http = HTTPServer(("127.0.0.1", 0), Says)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_address[1]}/v1", Says
    http.shutdown()
    http.server_close()
    thread.join()


def test_scores_are_written_and_shown_with_their_controls(cli, named: Path):
    result = cli("score", named, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert [row["scorer"] for row in answer["table"]] == ["predicate", "observational"]
    assert answer["next"] == f"saetools explore {named}"
    rows = {row.scorer: row for row in ScoreTable.load(named / "scores.json").summary()}
    assert rows["predicate"].n > 0
    assert rows["predicate"].mean == answer["table"][0]["mean"]
    assert rows["predicate"].mean > rows["predicate"].random_name


def test_latents_can_be_chosen_and_are_run(cli, named: Path):
    result = cli("score", named, "--scorers", "intervention", "--latents", "0:12", "--quiet")
    assert result.exit_code == 0, result.output
    table = ScoreTable.load(named / "scores.json")
    assert table.scorers == ["intervention"]
    assert {score.latent for score in table} <= set(range(12))
    assert any(score.status == "scored" for score in table)


def test_a_judge_behind_an_address_is_asked_once(cli, named: Path, server):
    pytest.importorskip("openai")
    url, says = server
    words = ["--scorers", "detection", "--latents", "0:12", "--judge", "m", "--judge-url", url]
    first = cli("score", named, *words, "--json")
    assert first.exit_code == 0, first.output
    asked = says.asked
    assert asked > 0
    rows = json.loads(first.stdout)["table"]
    assert rows[0]["latents"] > 0
    assert rows[0]["mean"] == pytest.approx(0.5)  # yes to everything is no better than chance
    again = cli("score", named, *words, "--json")
    assert again.exit_code == 0, again.output
    assert says.asked == asked
    assert json.loads(again.stdout)["table"] == rows


def test_what_is_missing_is_said(cli, named: Path):
    result = cli("score", named, "--scorers", "detection")
    assert result.exit_code == 1
    assert "--judge" in result.stderr
    (named / "names.csv").unlink()
    result = cli("score", named)
    assert result.exit_code == 1
    assert f"saetools name {named}" in result.stderr


def test_a_dry_run_writes_nothing(cli, named: Path):
    result = cli("score", named, "--dry-run")
    assert result.exit_code == 0, result.output
    assert not (named / "scores.json").exists()
