"""A picture of the upper part of a page, some seconds after it was opened:
pictures.py URL FILE SECONDS"""

import sys
import time

from browser import Browser

WIDTH, HEIGHT = 1280, 1000


def main(url, path, seconds):
    with Browser() as browser:
        browser.open(url, WIDTH)
        browser.wait("document.querySelector('.chart canvas') !== null", 10)
        time.sleep(float(seconds))
        browser.picture(path, HEIGHT)
        print(path, *browser.complaints())


main(*sys.argv[1:])
