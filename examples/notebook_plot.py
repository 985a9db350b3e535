"""Record for a while and plot it, as cells for Jupyter, VS Code or Spyder.

As a script: python notebook_plot.py PORT [PICTURE.png]
"""

# %% The port. In a notebook, write its name here, such as PORT = "/dev/ttyUSB0".
import sys

import matplotlib.pyplot as plt

import servomex

if len(sys.argv) < 2:
    sys.exit("usage: python notebook_plot.py PORT [PICTURE.png]")
PORT = sys.argv[1]
PICTURE = sys.argv[2] if len(sys.argv) > 2 else None
SECONDS, RATE_HZ = 5, 4

# %% Record into memory. A reading that failed is a sample without a reading.
samples: list[servomex.Sample] = []
with (
    servomex.open_device(PORT) as analyzer,
    servomex.record(analyzer, rate_hz=RATE_HZ, duration=SECONDS) as recording,
):
    for batch in recording.stream:
        samples.extend(batch)
print(recording.summary)


# %% One course for each channel. What is not good becomes NaN, at which matplotlib breaks the line.
def good_value(sample: servomex.Sample) -> float:
    reading = sample.reading
    if reading is None or reading.value is None or reading.quality != servomex.Quality.GOOD:
        return float("nan")
    return reading.value


def course(channel: str) -> tuple[list[float], list[float]]:
    of_channel = [sample for sample in samples if sample.channel in (channel, None)]
    begun_ns = samples[0].monotonic_ns
    return [(item.monotonic_ns - begun_ns) / 1e9 for item in of_channel], list(map(good_value, of_channel))


readings = {item.reading.channel: item.reading for item in samples if item.reading}
measured = {channel: reading for channel, reading in readings.items() if reading.kind == "transducer"}

# %% Plot
figure, axes = plt.subplots(len(measured), sharex=True, squeeze=False, layout="constrained")
for axis, (channel, reading) in zip(axes[:, 0], measured.items(), strict=True):
    axis.plot(*course(channel), marker=".")
    axis.set_ylabel(f"{reading.name or channel} / {reading.unit_text}")
    axis.grid(alpha=0.3)
axes[-1, 0].set_xlabel("time / s")
axes[0, 0].set_title(f"{PORT}, from {samples[0].received_at:%Y-%m-%d %H:%M:%S} UTC")
if PICTURE:
    figure.savefig(PICTURE)
else:
    plt.show()
