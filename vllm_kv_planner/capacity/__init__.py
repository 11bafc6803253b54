"""So what? Set-ups that fit, models compared, paging, requests that really run, sweeps."""
