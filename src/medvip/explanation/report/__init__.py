"""A run's report: one HTML file that says what was trained, how good it is, and what went wrong.

`content` says what a report holds, `overview` sums up symptoms over images, `figures` draws,
`thumbnails` makes pictures small, `page` puts all of it on one page.
"""

from medvip.explanation.report.content import (
    Facts,
    Failure,
    Neighbour,
    Report,
    SymptomMap,
)
from medvip.explanation.report.overview import ClassOverview, SymptomOverview, overview
from medvip.explanation.report.page import render
from medvip.explanation.report.thumbnails import Thumbnail, thumbnail

__all__ = [
    "ClassOverview",
    "Facts",
    "Failure",
    "Neighbour",
    "Report",
    "SymptomMap",
    "SymptomOverview",
    "Thumbnail",
    "overview",
    "render",
    "thumbnail",
]
