"""The status page as a person meets it, in a real browser, over a real database and cache."""

import json
import os
import signal

import pytest

from harness import browser
from harness.waiting import eventually

HOSTILE = "<b id=\"hit\">x</b>'&\"</script><img src=x>" + "y" * 60


@pytest.fixture
def page(folder):
    if browser.program() is None:
        assert os.environ.get("EVICTD_REQUIRE_SERVERS") != "1", "no chromium: deploy/packages.sh install browser"
        pytest.skip("no chromium: apt-get install chromium")
    one = browser.Browser(folder)
    yield one
    one.close()


def url(evictd):
    return f"http://127.0.0.1:{evictd.port}/"


RULES = """
- {name: products, table: public.products, keys: ["product:{id}"]}
- {name: never, table: public.products, keys: ["elsewhere:{id}"]}
- {name: "%s", table: public.categories, keys: ["category:{id}"]}
""" % HOSTILE.replace("\\", "\\\\").replace('"', '\\"')


def touch(postgres, count):
    for number in range(count):
        postgres.execute(f"update products set name = name || '' where id = {number % 5 + 1}")


def test_it_tells_what_metrics_tell_and_what_happens(page, make_evictd, postgres, cache):
    evictd = make_evictd(rules=RULES).start()
    for number in range(1, 6):
        cache.set(f"product:{number}", "x")
    page.look()
    page.open(url(evictd))
    page.wait("document.getElementById('verdict').className === 'ready'")
    assert page.text("#line") == "Ready: the cache follows the database."
    touch(postgres, 20)

    def cell(rule, column):
        return page.evaluate(f"""[...document.querySelectorAll('#rules tr')]
            .filter((row) => row.cells[0].textContent === {json.dumps(rule)}).map((row) => row.cells[{column}].innerText)[0]""")

    def same_numbers():
        scraped = evictd.metrics()
        for rule in ("products", "never"):
            of_rule = {"rule": rule, "kind": "key"}
            assert int(cell(rule, 4)) == scraped.sum("evictd_invalidations_total", outcome="deleted", **of_rule)
            assert int(cell(rule, 3)) == scraped.sum("evictd_invalidations_total", **of_rule)
        assert scraped.sum("evictd_invalidations_total", rule="products", outcome="deleted") == 5
        assert int(cell("products", 2)) == scraped.sum("evictd_changes_total", table="public.products") == 20
        return True

    eventually("the page's numbers are those of /metrics", same_numbers, 20)
    assert "25.0 % deleted, 75.0 % absent" in cell("products", 5)
    assert "ago" in cell("products", 7) or "now" in cell("products", 7)
    assert cell("never", 7) == "never"
    assert cell("never", 8).startswith("never hit although rows change")
    page.look(width=1400)
    page.wait("(() => { const box = document.getElementById('rules').closest('.wide'); return box.scrollWidth <= box.clientWidth; })()")

    # The charts have seen it: each has a line, and the caption a number.
    for chart in ("lag", "latency", "rates", "retained"):
        page.wait(f"document.querySelectorAll('#chart-{chart} path').length > 0 && "
                  f"document.querySelector('#chart-{chart} path').getAttribute('d').length > 10")
    assert "p50" in page.text("#chart-latency figcaption") and "p99" in page.text("#chart-latency figcaption")

    # A purge is there with its reason.
    cache.set("category:7", "x")
    postgres.execute("truncate categories cascade")
    page.wait("[...document.querySelectorAll('#events tr')].some((row) => row.innerText.includes('purged category:*'))", 10)
    done = page.evaluate("document.getElementById('events').innerText")
    assert "changes" in done and "1 keys" in done

    # Nothing that came from elsewhere became markup.
    page.wait(f"[...document.querySelectorAll('#rules th')].some((cell) => cell.textContent === {json.dumps(HOSTILE)})")
    assert page.evaluate("document.getElementById('hit') === null && document.querySelector('img') === null")
    assert page.complaints == []


def test_it_says_why_it_is_not_ready_and_what_a_reload_changed(page, make_evictd, postgres, redis):
    evictd = make_evictd(rules=RULES).start()
    page.open(url(evictd))
    page.wait("document.getElementById('verdict').className === 'ready'")
    evictd.write_rules(RULES.replace("- {name: never, table: public.products", "- {name: newer, table: public.products"))
    evictd.signal(signal.SIGHUP)
    page.wait("document.getElementById('reload').innerText.includes(\"1 new ('newer'), 1 gone ('never')\")")
    evictd.write_rules("- {table: public.products, keys: [\"{\"]}\n")
    evictd.signal(signal.SIGHUP)
    page.wait("document.getElementById('reload').innerText.includes('failed and the rules before it hold')")

    postgres.stop("immediate")
    page.wait("document.getElementById('line').innerText.startsWith('Not ready: the source is not streaming: ')")
    redis.stop()
    page.wait("document.getElementById('reasons').innerText.includes('redis is not connected')")
    evictd.kill()
    page.wait("document.getElementById('line').innerText.startsWith('Nothing heard from evictd for')")


def test_the_keyboard_reaches_everything_and_colours_can_be_read(page, make_evictd):
    evictd = make_evictd(rules=RULES).start()
    page.open(url(evictd))
    page.wait("document.querySelectorAll('#rules tr').length === 3")
    reached = []
    for _ in range(14):
        page.press("Tab")
        reached.append(page.evaluate(
            "(document.activeElement.closest('figure') || document.activeElement).id || "
            "document.activeElement.getAttribute('aria-labelledby') || document.activeElement.textContent"))
    for wanted in ("chart-lag", "chart-latency", "chart-rates", "chart-retained", "h-caches", "h-rules", "h-events", "h-source",
                   "metrics", "status as JSON"):
        assert wanted in reached, f"Tab never reaches {wanted}: {reached}"
    page.evaluate("document.querySelector('#chart-rates svg').focus()")
    page.press("ArrowLeft")
    page.wait("document.querySelector('#chart-rates svg').getAttribute('aria-label').includes('ago')")

    contrast = """(() => {
      const light = (colour) => { const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16) / 255)
        .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
      const style = getComputedStyle(document.documentElement);
      const colour = (name) => style.getPropertyValue('--' + name).trim();
      const found = {};
      for (const ground of ['ground', 'panel']) for (const name of ['text', 'soft', 'good', 'bad', 'wait', 'one', 'two', 'three', 'four']) {
        const pair = [light(colour(name)), light(colour(ground))].sort();
        found[name + ' on ' + ground] = (pair[1] + 0.05) / (pair[0] + 0.05);
      }
      return found;
    })()"""
    for scheme in ("light", "dark"):
        page.look(scheme=scheme)
        for pair, ratio in page.evaluate(contrast).items():
            assert ratio >= 4.5, f"{scheme}: {pair} has a contrast of {ratio:.2f}"
    # On a phone nothing but tables may be wider than the screen.
    page.look(width=390, height=800)
    page.wait("document.documentElement.scrollWidth <= 390")
    assert page.complaints == []


def test_what_became_of_a_key_is_told_where_keys_are_shown(page, make_evictd, postgres, cache):
    evictd = make_evictd(rules=RULES).start()
    page.open(url(evictd))
    page.wait("document.getElementById('verdict').className === 'ready'")
    assert page.evaluate("document.getElementById('keys').hidden")
    assert evictd.http("/key?name=product:1")[0] == 404
    evictd.stop()
    with open(evictd.config, encoding="utf-8") as file:
        text = file.read()
    with open(evictd.config, "w", encoding="utf-8") as file:
        file.write(text.replace("http:\n", "http:\n  show_keys: true\n"))
    evictd.start()
    cache.set("product:1", "x")
    touch(postgres, 5)
    eventually("the key is gone", lambda: not cache.exists("product:1"))
    page.open(url(evictd))
    page.wait("!document.getElementById('keys').hidden")
    page.evaluate("document.getElementById('key').value = 'product:1'; document.querySelector('#keys button').click()")
    page.wait("document.querySelectorAll('#key-decisions tr').length > 0 && document.getElementById('key-decisions').innerText.includes('delete')")
    told = page.text("#key-decisions")
    assert "products" in told and ("deleted" in told or "absent" in told)
    # What is typed in is text, whatever it looks like.
    page.evaluate(f"document.getElementById('key').value = {json.dumps(HOSTILE)}; document.querySelector('#keys button').click()")
    page.wait("document.getElementById('key-says').innerText.startsWith('None about ')")
    assert page.evaluate("document.getElementById('hit') === null && document.querySelector('img') === null")
    # The keyboard alone does it too.
    page.evaluate("document.getElementById('key').focus()")
    page.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Show"
    assert page.complaints == []


def test_what_the_audit_found_is_told(page, make_evictd, postgres, cache):
    rules = "- {table: public.products, keys: ['product:{id}'], fill: checked}\n"
    evictd = make_evictd(rules=rules, more="audit: {rate: 1000/s}\n").start()
    page.open(url(evictd))
    page.wait("!document.getElementById('audit').hidden")
    connection = postgres.connect()
    with connection.cursor() as cursor:
        cursor.execute("select row_to_json(p)::text, pg_current_snapshot()::text from products p where id = 7")
        old, token = cursor.fetchone()
    names = ("product:7", "evictd:{product:7}")
    postgres.execute("update products set price_cents = price_cents + 1 where id = 7")
    eventually("the delete", lambda: cache.exists(names[1]))
    cache.delete(names[1])  # as an eviction would
    assert cache.execute_command("FCALL", "evictd_fill", 2, *names, token, 600_000, old) == 1
    page.wait("document.getElementById('audit-stale').innerText.includes('product:7')", 60)
    told = page.text("#audit-stale")
    assert "by a reader that had seen " + token in told and "has not seen" in told
    assert "judged values are stale" in page.text("#audit-says")
    assert page.complaints == []


def test_without_script_it_still_tells_the_state(page, make_evictd, redis):
    evictd = make_evictd(rules=RULES).start()
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.open(url(evictd))
    assert page.text("#line") == "Ready: the cache follows the database."
    redis.stop()
    # It loads itself again.
    page.wait("document.getElementById('line').innerText.startsWith('Not ready: ')", 30)


def test_it_is_small_and_those_who_look_are_few(make_evictd):
    evictd = make_evictd(rules=RULES).start()
    code, text = evictd.http("/")
    assert code == 200 and len(text) < 60_000
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text
