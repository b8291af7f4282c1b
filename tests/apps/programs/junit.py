# SPDX-License-Identifier: Apache-2.0
"""junit.py DIRECTORY: the tests in its *.xml that did not pass, one a line; junit.py --count
DIRECTORY: how many there are in all."""
import glob
import sys
import xml.etree.ElementTree


def cases(directory):
    for path in sorted(glob.glob(directory + "/*.xml")):
        for case in xml.etree.ElementTree.parse(path).iter("testcase"):
            yield case.get("name"), any(child.tag in ("failure", "error") for child in case)


if sys.argv[1] == "--count":
    print(sum(1 for _ in cases(sys.argv[2])))
else:
    for name, failed in cases(sys.argv[1]):
        if failed:
            print(name)
