"""Pictures of a page at three widths, light and dark: pictures.py URL DIRECTORY"""

import pathlib
import sys
import time

from browser import Browser


def main(url, directory):
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with Browser() as browser:
        browser.open(url)
        browser.wait("document.querySelector('.chart canvas') !== null", 10)
        for width in (390, 1024, 1700):
            for dark in (False, True):
                browser.view(width, dark)
                time.sleep(0.7)  # a chart is drawn anew when its size is known
                browser.picture(directory / f"{width}-{'dark' if dark else 'light'}.png")
        for complaint in browser.complaints():
            print("console:", complaint)


main(*sys.argv[1:])
