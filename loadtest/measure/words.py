"""How figures are written: numbers of a spread, losses, answers, tables in Markdown."""


def scaled(spread, factor):
    """A spread in another unit."""
    if spread is None:
        return None
    return spread | {key: spread[key] * factor for key in ("median", "q1", "q3")}


def number(spread, form, key="median"):
    """A number of a spread, or a dash."""
    return "–" if spread is None else format(spread[key], form)


def quartiles(spread, form):
    """The quartiles of a spread, or a dash."""
    if spread is None:
        return "–"
    return f"{spread['q1']:{form}}–{spread['q3']:{form}}"


def answers(counts, expected=()):
    """What kinds of answers there were; in bold whatever was not as it should be."""
    notes = [f"{rcode} {share:.0%}" for rcode, share in counts["rcodes"].items()]
    for key, count in counts["odd"].items():
        note = f"{key.replace('_', ' ')} {count}"
        notes.append(note if key in expected else f"**{note}**")
    return ", ".join(notes) or "as expected"


def loss(counts):
    """Loss in percent."""
    share = counts["lost_share"]
    return "–" if share is None else f"{100 * share:.3f}"


def markdown(heads, rows):
    """The lines of a table whose columns are aligned in the source, too."""
    widths = [max(map(len, column)) for column in zip(heads, *rows)]

    def line(cells):
        padded = (
            cell.ljust(width) if index in (0, len(cells) - 1) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths))
        )
        return f"| {' | '.join(padded)} |"

    last = len(widths) - 1
    ends = ("-" if index in (0, last) else ":" for index in range(last + 1))
    rule = ["-" * (width - 1) + end for width, end in zip(widths, ends)]
    return [line(heads), f"| {' | '.join(rule)} |", *map(line, rows)]
