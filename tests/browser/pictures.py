"""A picture of the upper part of a page, once it shows what it should:
pictures.py URL FILE HEIGHT CONDITION SECONDS; CONDITION is JavaScript, SECONDS the most to wait."""

import sys

from browser import Browser

WIDTH = 1280


def main(url, path, height, condition, seconds):
    with Browser() as browser:
        browser.open(url, WIDTH)
        browser.wait("document.querySelector('.chart canvas') !== null", 30)
        browser.wait(condition, float(seconds))
        browser.picture(path, int(height))
        complaints = browser.complaints()
        assert not complaints, complaints
        print(path)


main(*sys.argv[1:])
