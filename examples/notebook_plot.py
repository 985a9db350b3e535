"""Record for a while and plot it, as cells for Jupyter, VS Code or Spyder.

As a script: python notebook_plot.py PORT [PICTURE.png]
"""

# %% The port. In a notebook, write its name here, such as PORT = "/dev/ttyUSB0".
import sys

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

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


# %% A row a time, a column a channel. What is not good is NaN, at which matplotlib breaks the line.
table = servomex.to_pandas(samples, wide=True)
seconds = (table.index - table.index[0]).total_seconds()
names = {item.reading.channel: item.reading.name for item in samples if item.reading}
measured = [label for label in map(str, table.columns) if label.startswith("I") and label.endswith("]")]


# %% Plot. A label is the channel and its unit, such as "I1 [%]".
def draw(axis: Axes, label: str) -> None:
    channel, _, unit = label.partition(" ")
    axis.plot(seconds, table[label], marker=".")
    axis.set_ylabel(f"{names[channel] or channel} {unit}")
    axis.grid(alpha=0.3)


figure, axes = plt.subplots(len(measured), sharex=True, squeeze=False, layout="constrained")
for axis, label in zip(axes[:, 0], measured, strict=True):
    draw(axis, label)
axes[-1, 0].set_xlabel("time / s")
axes[0, 0].set_title(f"{PORT}, from {samples[0].received_at:%Y-%m-%d %H:%M:%S} UTC")
if PICTURE:
    figure.savefig(PICTURE)
else:
    plt.show()
