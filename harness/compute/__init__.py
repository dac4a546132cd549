"""How and where numbers are computed: devices, processors, threads, precision, caches."""
