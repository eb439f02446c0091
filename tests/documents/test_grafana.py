"""deploy/grafana/evictd.json: every query run by a real Prometheus that scraped an evictd under load; none is empty. And
what docker-compose.yml mounts is there, and fits together."""

import json
import os
import re
import shutil
import signal
import threading
import urllib.parse
import urllib.request

import pytest
import yaml

from harness import process, servers, shop
from harness.daemon import ROOT, Evictd
from harness.waiting import eventually


def dashboard():
    with open(f"{ROOT}/deploy/grafana/evictd.json", encoding="utf-8") as file:
        return json.load(file)


def queries():
    """[(panel, query)] with Grafana's variables as it would fill them in for all jobs and caches."""
    found = [(panel["title"], target["expr"]) for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    return [(title, re.sub(r"\$(?:job|cache)\b", ".*", query).replace("$__rate_interval", "10s")) for title, query in found]


def test_the_dashboard_is_in_order():
    panels = dashboard()["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids))
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, f"'{panel['title']}' lies on another panel"
        assert max(x for x, _ in cells) < 24, f"'{panel['title']}' is out of the grid"
        taken |= cells
        # The data source is chosen on the page: a name of ours would be nowhere else.
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return json.load(answer)
    except OSError as error:
        raise AssertionError(str(error)) from None


@pytest.fixture(scope="module", name="scraped")
def prometheus_that_scraped():
    """The port of a Prometheus, with an evictd that has been working before it."""
    if shutil.which("prometheus") is None:
        if os.environ.get("EVICTD_REQUIRE_SERVERS") == "1":
            pytest.fail("no prometheus on the PATH: deploy/packages.sh install test")
        pytest.skip("no prometheus on the PATH")
    postgres = servers.Postgres(process.temporary_folder("evictd-grafana-pg-")).start()
    shop.create(postgres, ROOT)
    cache = servers.Redis(process.temporary_folder("evictd-grafana-redis-")).start()
    with open(f"{ROOT}/deploy/rules.yaml", encoding="utf-8") as rules:
        daemon = Evictd(process.temporary_folder("evictd-grafana-"), postgres.url(), cache.url(), rules.read(),
                        postgres_more="heartbeat: 1s").start()
    folder = process.temporary_folder("evictd-prometheus-")
    with open(f"{folder}/prometheus.yml", "w", encoding="utf-8") as file:
        file.write("global: {scrape_interval: 1s}\nscrape_configs:\n"
                   f"  - {{job_name: evictd, static_configs: [{{targets: ['127.0.0.1:{daemon.port}']}}]}}\n")
    port = process.free_port()
    prometheus = process.start(["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                                f"--web.listen-address=127.0.0.1:{port}"], log=f"{folder}/log")
    enough = threading.Event()

    connection = postgres.connect()

    def write():
        cursor = connection.cursor()
        number = 0
        while not enough.wait(0.02):
            number += 1
            cache.client().set(f"product:{number % 100 + 1}", "old")
            cursor.execute("update products set price_cents = price_cents + 1 where id = %s", (number % 100 + 1,))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        def has_seen_enough():
            answer = get(port, "/api/v1/query?" + urllib.parse.urlencode({"query": "count_over_time(evictd_ready[1m])"}))
            assert answer["data"]["result"], "nothing scraped"
            return float(answer["data"]["result"][0]["value"][1]) >= 12

        eventually("Prometheus has scraped for a while", has_seen_enough, 60)
        yield port
    finally:
        enough.set()
        writer.join()
        connection.close()
        process.end(prometheus, signal.SIGTERM)
        daemon.stop()
        cache.stop()
        postgres.stop("immediate")


def test_no_query_is_empty(scraped):
    assert len(queries()) > 15
    empty = []
    for title, query in queries():
        answer = get(scraped, "/api/v1/query?" + urllib.parse.urlencode({"query": query}))
        assert answer["status"] == "success", f"'{title}': {answer}"
        values = [float(one["value"][1]) for one in answer["data"]["result"]]
        if not [value for value in values if value == value]:
            empty.append(f"'{title}': {query}")
    assert not empty, "\n".join(empty)


def test_the_variables_find_something(scraped):
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] != "query":
            continue
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()
        answer = get(scraped, f"/api/v1/label/{label}/values?" + urllib.parse.urlencode({"match[]": metric}))
        assert answer["data"], f"no value for '{variable['name']}'"


def test_what_compose_mounts_is_there_and_fits():
    with open(f"{ROOT}/docker-compose.yml", encoding="utf-8") as file:
        services = yaml.safe_load(file)["services"]
    assert {"postgres", "redis", "evictd", "prometheus", "grafana"} <= {
        name for name, service in services.items() if "profiles" not in service}
    for name, service in services.items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert os.path.exists(f"{ROOT}/{source}"), f"{name} mounts {source}"
        for needed in service.get("depends_on", ()):
            assert needed in services
            if service["depends_on"][needed]["condition"] == "service_healthy":
                assert "healthcheck" in services[needed]
        # Trying it out opens nothing to the network.
        assert all(published.startswith("127.0.0.1:") for published in service.get("ports", ())), name
    for service, config in (("evictd", "evictd.yaml"), ("evictd-kafka", "evictd-kafka.yaml")):
        with open(f"{ROOT}/deploy/{config}", encoding="utf-8") as file:
            wanted = set(re.findall(r"\$\{(EVICTD_\w+)", file.read()))
        assert wanted <= set(services[service]["environment"]), f"{config} takes {wanted} from the environment of '{service}'"
    with open(f"{ROOT}/deploy/prometheus/prometheus.yaml", encoding="utf-8") as file:
        target = yaml.safe_load(file)["scrape_configs"][0]["static_configs"][0]["targets"][0]
    assert target.split(":")[0] in services
    assert services["evictd"]["environment"]["EVICTD_LISTEN"].endswith(target.rpartition(":")[2])
    with open(f"{ROOT}/deploy/grafana/provisioning/datasources/prometheus.yaml", encoding="utf-8") as file:
        source = yaml.safe_load(file)["datasources"][0]["url"]
    assert urllib.parse.urlsplit(source).hostname in services
    with open(f"{ROOT}/deploy/grafana/provisioning/dashboards/evictd.yaml", encoding="utf-8") as file:
        path = yaml.safe_load(file)["providers"][0]["options"]["path"]
    mounted = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert f"{path}/evictd.json" in mounted
