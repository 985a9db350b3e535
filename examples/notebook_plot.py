"""Record for a while and plot it, as cells for Jupyter, VS Code or Spyder.

As a script: python notebook_plot.py PORT [PICTURE.png]
"""

# %% The port. In a notebook, write its name here, such as PORT = "/dev/ttyUSB0".
import sys

if len(sys.argv) < 2:
    sys.exit("usage: python notebook_plot.py PORT [PICTURE.png]")
PORT = sys.argv[1]
PICTURE = sys.argv[2] if len(sys.argv) > 2 else None
SECONDS, RATE_HZ = 5, 4

# %% Record into memory. A reading that failed is a sample without a reading.
import servomex

samples: list[servomex.Sample] = []
with servomex.open_device(PORT) as analyzer:
    with servomex.record(analyzer, rate_hz=RATE_HZ, duration=SECONDS) as recording:
        for batch in recording.stream:
            samples.extend(batch)
print(recording.summary)


# %% One course for each channel. What is not good becomes NaN, at which matplotlib breaks the line.
def course(channel: servomex.ChannelId) -> tuple[list[float], list[float]]:
    begun_ns = samples[0].monotonic_ns
    times, values = [], []
    for sample in samples:
        if sample.reading is None or sample.channel == channel:
            good = sample.reading is not None and sample.reading.quality == servomex.Quality.GOOD
            times.append((sample.monotonic_ns - begun_ns) / 1e9)
            values.append(sample.reading.value if good else float("nan"))
    return times, values


channels = {sample.channel: sample.reading for sample in samples if sample.reading and sample.channel}
measured = {channel: reading for channel, reading in channels.items() if reading.kind == "measured"}

# %% Plot
import matplotlib.pyplot as plt

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
