"""Read several analysers on one RS485 line, round by round, until Ctrl-C."""

import argparse
import contextlib
import itertools
import sys
import time

import servomex


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", help="such as /dev/ttyUSB0, COM3 or sim://4100")
    parser.add_argument("addresses", type=int, nargs="+", help="their Modbus addresses, such as 1 2 5")
    parser.add_argument("--protocol", default="modbus_rtu", choices=["modbus_rtu", "modbus_ascii"])
    parser.add_argument("--every", type=float, default=5.0, help="seconds from one round to the next")
    parser.add_argument("--rounds", type=int, help="how many; until Ctrl-C when omitted")
    given = parser.parse_args()
    rounds = range(given.rounds) if given.rounds else itertools.count()
    try:
        with contextlib.suppress(KeyboardInterrupt), servomex.ServomexManager(error_policy="return") as manager:
            for address in given.addresses:  # one that is switched off now is read when it answers
                manager.add(
                    f"unit {address}", given.port, address=address, protocol=given.protocol, identify=False
                )
            for number in rounds:
                if number:
                    time.sleep(given.every)
                show(manager)
    except servomex.ServomexError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def show(manager: servomex.ServomexManager) -> None:
    print(time.strftime("%H:%M:%S"))
    for name, result in manager.poll().items():
        if result.value is None:
            print(f"  {name}: {result.error}", flush=True)
            continue
        values = (f"{item.name or item.channel} {item:.3f} {item.unit_text}" for item in result.value)
        print(f"  {name}: {', '.join(values)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
