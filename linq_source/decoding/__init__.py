"""From bytes to Arrow: pure functions that know no network, no dlt and no clock."""
