"""Record for a while and plot it, as cells for Jupyter, VS Code or Spyder.

As a script: python notebook_plot.py PORT [PICTURE.png]
"""

# %% The port. In a notebook, write its name here, such as PORT = "/dev/ttyUSB0".
import sys

from matplotlib.figure import Figure

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

# %% A row a time, a column a channel with its unit, and its quality beside it. What is not good is NaN.
table = servomex.to_pandas(samples, wide=True)
print(table.select_dtypes("number").describe().round(3))


# %% Plot. It is a figure of matplotlib, to be changed at will.
def draw(title: str) -> Figure:
    drawn = servomex.plot(samples, channels=["I1", "I2", "I3"], by="channel", size=(900, 700))
    drawn.axes[0].set_title(title)
    return drawn


figure = draw(f"{PORT}, {RATE_HZ} readings per second")
figure  # noqa: B018 (a notebook shows the value of the last line)

# %% As a file. With .html in place of .png it is a page with zoom and cursor.
if PICTURE:
    figure.savefig(PICTURE)
