"""Reads JUnit's XML by junitparser, and prints its cases as JSON."""

import json
import sys

from junitparser import JUnitXml

suites = JUnitXml.fromfile(sys.argv[1])
cases = [
    {
        "suite": suite.name,
        "name": case.name,
        "classname": case.classname,
        "failures": [{"type": result.type, "message": result.message, "text": result.text} for result in case.result],
    }
    for suite in suites
    for case in suite
]
totals = {"tests": suites.tests, "failures": suites.failures, "errors": suites.errors, "skipped": suites.skipped}
json.dump({"cases": cases, **totals}, sys.stdout)
