"""A run's report: one HTML file that says what was trained, how good it is, and what went wrong.

`content` says what a report holds, `overview` sums up symptoms over images, `figures` draws,
`thumbnails` and `map_pictures` make pictures small, `page` puts all of it on one page.
"""

from medvip.explanation.report.content import Facts, Failure, Neighbour, Report
from medvip.explanation.report.map_pictures import maps_of_failure
from medvip.explanation.report.overview import overview
from medvip.explanation.report.page import render
from medvip.explanation.report.thumbnails import thumbnail

__all__ = [
    "Facts",
    "Failure",
    "Neighbour",
    "Report",
    "maps_of_failure",
    "overview",
    "render",
    "thumbnail",
]
