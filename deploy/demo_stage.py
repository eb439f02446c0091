"""What all demos stand on: titles, seconds, and an end that leaves nothing behind."""

import os
import shutil
import signal
import sys
import time

from harness import process

SECONDS_ONCE = 10
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def say(text=""):
    print(text, flush=True)


def title(text):
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    say(f"\n{bold}== {text}{plain}")


def every_second(once, show, seconds_once=SECONDS_ONCE):
    """show(1), show(2), ... at the pace of the clock, until Ctrl-C, or so many of them."""
    begin, second = time.monotonic(), 0
    try:
        while not once or second < seconds_once:
            second += 1
            time.sleep(max(0.0, begin + second - time.monotonic()))
            show(second)
    except KeyboardInterrupt:
        say("\nstopping the writers (Ctrl-C again: at once)")


def perform(demo):
    """Runs demo(folder, once) and returns the exit code; servers and folder are gone afterwards."""

    def interrupt(*_):
        raise KeyboardInterrupt

    for number in SIGNALS:
        signal.signal(number, interrupt)
    folder = process.temporary_folder("evictd-demo-")
    try:
        demo(folder, "--once" in sys.argv[1:])
        return 0
    except KeyboardInterrupt:
        say("\nstopped")
        return 130
    except Exception as error:  # pylint: disable=broad-except
        say(f"\nthe demo failed: {error}")
        if os.path.exists(f"{folder}/evictd.log"):
            with open(f"{folder}/evictd.log", encoding="utf-8", errors="replace") as log:
                say("the end of evictd's log:\n" + "".join(log.readlines()[-30:]))
        return 1
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        process.end_all()
        shutil.rmtree(folder, ignore_errors=True)
