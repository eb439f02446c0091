"""What the black-box tests, the benchmark and the demo share: private servers, the daemon as a process,
a cache-aside application and the check of its cache. Standard library, psycopg2 and redis only."""
