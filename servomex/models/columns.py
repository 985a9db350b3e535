"""The columns of a row: their names and their order."""

ROW_COLUMNS = (
    "received_at monotonic_ns device protocol channel kind name value unit unit_text quality ok fault "
    "maintenance calibrating warming_up alarm1 alarm2 alarm3 alarm4 analyser_fault analyser_maintenance "
    "cal_groups analyser_clock requested_at latency_s error error_type tags"
).split()
"""The columns of every row this package writes, in their order. See :meth:`Sample.as_dict`."""
