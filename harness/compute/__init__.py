"""How and where something is computed: devices, processors, threads, precision, caches."""
