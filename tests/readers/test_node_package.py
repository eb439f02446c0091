"""What docs/recipes/node promises beside the scenarios of test_recipes.py, case by case: drivers/node_package/cases.mjs."""

import languages


def test_each_case(evictd, database, redis_server, parts_folder):
    languages.run_cases("node-pool", "cases.mjs", database, redis_server, parts_folder)
