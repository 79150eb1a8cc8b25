"""Tables of engine scenarios to read aloud: one row a command, what it does, and the book after it.

    WHO buys|sells LOTS @ PRICE [HOW...]                   a limit order, good till canceled unless it says otherwise
    WHO buys LOTS for BUDGET [HOW...]                       a market buy that may spend so much
    WHO sells LOTS at market [HOW...]                       a market sell
    WHO cancels N [of OTHER] [for CAUSE]                    the Nth order that WHO (or OTHER) sent
    WHO moves N [of OTHER] to LOTS @ PRICE                  replaces it
    WHO cancels all [bids|asks] [for CAUSE]                 of WHO's
    WHO both ORDER / ORDER                                  two of these: one cancels the other
    WHO first ORDER then ORDER [/ ORDER]                    exits that wait for an entry
    halt | open | pre-open | close                          the market
    rules LEAST MOST WORTH BAND_PPM [WORTH_LEAST [0 AGE]]   the market's, 0 for none
    elsewhere PRICE [seen N ago]                            the reference price, and how many seconds old it is

    WHO cancels after N                                     unless this comes again within N seconds; 0: never
    tick [N]                                                the book's clock, N seconds later
    lead                                                    a new leader, of today's edition

HOW is ioc, fok, day, post-only or till-N (the time; every command takes 1); own-... for what happens when it meets an order
of its owner's; least-N, the minimum quantity; show-N, an iceberg; reprice, if it is post-only. It waits for stop-N or
profit-N, the last trade's price, for quote-stop-N or quote-profit-N, or as a trailing stop for trail-N. What a command
did to other orders than those that traded stands before its own outcome, as `bob 2: canceled 3 SELF_TRADE;` for bob's
second.

MAX is the largest int64, 2^63 the number after it.

A title that begins with "Edition 0:" is of a journal that an older build leads: it always becomes the same again.

The book before a row is the one drawn in the row above; the first row starts from an empty book. It is drawn as
bids | asks, each best price first, at each price who stands there with what, oldest first (2+8: 2 that are shown, 8
that are not); then ~ and what waits outside of it: whose, and what it sets aside of which asset. One lot at price 1 is
worth one base unit, so that the sums are easy to check. No pytest here: planted faults run against these tables too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from services.book import model as m
from services.book.engine import Engine
from services.book.switches import NS_PER_SECOND
from services.command_ids import command_id_of
from services.units import INT64_MAX

WHO = {"ann": 1001, "bob": 1002, "cat": 1003, "dan": 1004}
NAMES = {account_id: name for name, account_id in WHO.items()}
ASSETS = {1: "BTC", 2: "USD"}
GATEWAY = 1
NOTIONAL_MIN = 10
CAUSES = {
    m.CANCEL_CAUSE_USER: "USER",
    m.CANCEL_CAUSE_IOC: "IOC",
    m.CANCEL_CAUSE_FOK: "FOK",
    m.CANCEL_CAUSE_POST_ONLY: "POST_ONLY",
    m.CANCEL_CAUSE_SELF_TRADE: "SELF_TRADE",
    m.CANCEL_CAUSE_BUDGET: "BUDGET",
    m.CANCEL_CAUSE_EXPIRED: "EXPIRED",
    m.CANCEL_CAUSE_MINIMUM: "MINIMUM",
    m.CANCEL_CAUSE_LINKED: "LINKED",
    m.CANCEL_CAUSE_BAND: "BAND",
    m.CANCEL_CAUSE_CANCEL_AFTER: "CANCEL_AFTER",
    m.CANCEL_CAUSE_OPERATOR: "OPERATOR",
    m.CANCEL_CAUSE_DISCONNECT: "DISCONNECT",
    m.CANCEL_CAUSE_DAY_END: "DAY_END",
    m.CANCEL_CAUSE_MARKET: "MARKET",
}
ASKED_CAUSES = {
    None: m.CANCEL_CAUSE_UNSPECIFIED,
    "operator": m.CANCEL_CAUSE_OPERATOR,
    "disconnect": m.CANCEL_CAUSE_DISCONNECT,
}
TIMES = {"gtc": m.TIME_IN_FORCE_GTC, "ioc": m.TIME_IN_FORCE_IOC, "fok": m.TIME_IN_FORCE_FOK, "day": m.TIME_IN_FORCE_DAY}
STATES = {
    "halt": m.MARKET_STATE_HALTED,
    "open": m.MARKET_STATE_OPEN,
    "pre-open": m.MARKET_STATE_PRE_OPEN,
    "close": m.MARKET_STATE_CLOSED,
}
STATE_NAMES = {
    m.MARKET_STATE_HALTED: "halted",
    m.MARKET_STATE_OPEN: "opened",
    m.MARKET_STATE_PRE_OPEN: "collects",
    m.MARKET_STATE_CLOSED: "closed",
}
OWN = {
    "own-oldest": m.SELF_TRADE_CANCEL_OLDEST,
    "own-both": m.SELF_TRADE_CANCEL_BOTH,
    "own-decrement": m.SELF_TRADE_DECREMENT,
    "own-allow": m.SELF_TRADE_ALLOW,
}
WAITS = {
    "stop": (m.TRIGGER_STOP, m.TRIGGER_SOURCE_LAST),
    "profit": (m.TRIGGER_TAKE_PROFIT, m.TRIGGER_SOURCE_LAST),
    "quote-stop": (m.TRIGGER_STOP, m.TRIGGER_SOURCE_QUOTE),
    "quote-profit": (m.TRIGGER_TAKE_PROFIT, m.TRIGGER_SOURCE_QUOTE),
}

ROWS = """
# A limit order rests, and others queue beside it
ann buys 5 @ 100            => rests 5                            => 100 ann 5 |
bob buys 3 @ 101            => rests 3                            => 101 bob 3, 100 ann 5 |
cat buys 2 @ 100            => rests 2                            => 101 bob 3, 100 ann 5 cat 2 |
dan buys 1 @ 99             => rests 1                            => 101 bob 3, 100 ann 5 cat 2, 99 dan 1 |
ann sells 4 @ 103           => rests 4                            => 101 bob 3, 100 ann 5 cat 2, 99 dan 1 | 103 ann 4
bob sells 4 @ 102 => rests 4 => 101 bob 3, 100 ann 5 cat 2, 99 dan 1 | 102 bob 4, 103 ann 4
cat sells 1 @ 102 => rests 1 => 101 bob 3, 100 ann 5 cat 2, 99 dan 1 | 102 bob 4 cat 1, 103 ann 4

# Equal prices trade whole, and both orders are gone
ann sells 5 @ 100           => rests 5                            => | 100 ann 5
bob buys 5 @ 100            => 5 @ 100 ann: filled                => |

# The better price trades first, whoever came first, and the maker's price is the price
ann sells 3 @ 102           => rests 3                            => | 102 ann 3
bob sells 2 @ 101           => rests 2                            => | 101 bob 2, 102 ann 3
cat buys 4 @ 105            => 2 @ 101 bob, 2 @ 102 ann: filled   => | 102 ann 1

# The same on the other side: the highest bid sells first
ann buys 3 @ 98             => rests 3                            => 98 ann 3 |
bob buys 2 @ 99             => rests 2                            => 99 bob 2, 98 ann 3 |
cat sells 4 @ 95            => 2 @ 99 bob, 2 @ 98 ann: filled     => 98 ann 1 |

# At one price the oldest trades first
ann sells 2 @ 100           => rests 2                            => | 100 ann 2
bob sells 2 @ 100           => rests 2                            => | 100 ann 2 bob 2
cat sells 2 @ 100           => rests 2                            => | 100 ann 2 bob 2 cat 2
dan buys 3 @ 100            => 2 @ 100 ann, 1 @ 100 bob: filled   => | 100 bob 1 cat 2
dan buys 2 @ 100            => 1 @ 100 bob, 1 @ 100 cat: filled   => | 100 cat 1

# An order that was filled in part keeps its place
ann buys 5 @ 100            => rests 5                            => 100 ann 5 |
bob buys 5 @ 100            => rests 5                            => 100 ann 5 bob 5 |
cat sells 2 @ 100           => 2 @ 100 ann: filled                => 100 ann 3 bob 5 |
cat sells 4 @ 100           => 3 @ 100 ann, 1 @ 100 bob: filled   => 100 bob 4 |

# What does not trade rests at its own price
ann sells 2 @ 100           => rests 2                            => | 100 ann 2
bob buys 5 @ 101            => 2 @ 100 ann: rests 3               => 101 bob 3 |
cat sells 1 @ 101           => 1 @ 101 bob: filled                => 101 bob 2 |

# A limit stops at its price
ann sells 1 @ 100           => rests 1                            => | 100 ann 1
ann sells 1 @ 101           => rests 1                            => | 100 ann 1, 101 ann 1
ann sells 1 @ 102           => rests 1                            => | 100 ann 1, 101 ann 1, 102 ann 1
bob buys 3 @ 101            => 1 @ 100 ann, 1 @ 101 ann: rests 1  => 101 bob 1 | 102 ann 1

# Immediate or cancel: what it can, and never rests
ann sells 2 @ 100           => rests 2                            => | 100 ann 2
bob buys 5 @ 99 ioc         => canceled 5 IOC                     => | 100 ann 2
bob buys 1 @ 100 ioc        => 1 @ 100 ann: filled                => | 100 ann 1
bob buys 5 @ 100 ioc        => 1 @ 100 ann: canceled 4 IOC        => |
bob sells 5 @ 100 ioc       => canceled 5 IOC                     => |

# Fill or kill: all of it or nothing
ann sells 2 @ 100           => rests 2                            => | 100 ann 2
cat sells 2 @ 101           => rests 2                            => | 100 ann 2, 101 cat 2
bob buys 5 @ 101 fok        => canceled 5 FOK                     => | 100 ann 2, 101 cat 2
bob buys 3 @ 100 fok        => canceled 3 FOK                     => | 100 ann 2, 101 cat 2
bob buys 3 @ 99 fok         => canceled 3 FOK                     => | 100 ann 2, 101 cat 2
bob buys 3 @ 101 fok        => 2 @ 100 ann, 1 @ 101 cat: filled   => | 101 cat 1
bob sells 1 @ 101 fok       => canceled 1 FOK                     => | 101 cat 1
bob buys 1 @ 101 fok        => 1 @ 101 cat: filled                => |

# Post-only: rests, or is canceled if it would trade
ann buys 2 @ 100 post-only  => rests 2                            => 100 ann 2 |
bob sells 2 @ 100 post-only => canceled 2 POST_ONLY               => 100 ann 2 |
bob sells 2 @ 99 post-only  => canceled 2 POST_ONLY               => 100 ann 2 |
ann sells 1 @ 100 post-only => canceled 1 POST_ONLY               => 100 ann 2 |
bob sells 2 @ 101 post-only => rests 2                            => 100 ann 2 | 101 bob 2
cat sells 1 @ 100           => 1 @ 100 ann: filled                => 100 ann 1 | 101 bob 2

# Nobody trades with himself: the newer order ends, its trades before that stand
ann sells 2 @ 101           => rests 2                            => | 101 ann 2
bob sells 2 @ 100           => rests 2                            => | 100 bob 2, 101 ann 2
ann buys 5 @ 101            => 2 @ 100 bob: canceled 3 SELF_TRADE => | 101 ann 2
ann buys 5 @ 101 ioc        => canceled 5 SELF_TRADE              => | 101 ann 2
ann buys 1 for 500          => canceled 1 SELF_TRADE              => | 101 ann 2
ann buys 5 @ 100            => rests 5                            => 100 ann 5 | 101 ann 2
ann sells 1 at market       => canceled 1 SELF_TRADE              => 100 ann 5 | 101 ann 2

# One's own order further back is not in the way
bob sells 2 @ 100           => rests 2                            => | 100 bob 2
ann sells 2 @ 100           => rests 2                            => | 100 bob 2 ann 2
ann buys 2 @ 100            => 2 @ 100 bob: filled                => | 100 ann 2
bob sells 1 @ 100           => rests 1                            => | 100 ann 2 bob 1
ann buys 1 @ 100            => canceled 1 SELF_TRADE              => | 100 ann 2 bob 1

# Fill or kill counts one's own orders as not to be had
bob sells 2 @ 100           => rests 2                            => | 100 bob 2
ann sells 2 @ 100           => rests 2                            => | 100 bob 2 ann 2
ann buys 3 @ 100 fok        => canceled 3 FOK                     => | 100 bob 2 ann 2
ann buys 2 @ 100 fok        => 2 @ 100 bob: filled                => | 100 ann 2

# One's own older order ends, and the newer goes on
ann sells 2 @ 100           => rests 2                            => | 100 ann 2
bob sells 2 @ 100           => rests 2                            => | 100 ann 2 bob 2
ann buys 3 @ 101 own-oldest => ann 1: canceled 2 SELF_TRADE; 2 @ 100 bob: rests 1 => 101 ann 1 |
ann buys 1 @ 99 own-oldest  => rests 1                            => 101 ann 1, 99 ann 1 |
ann sells 1 @ 100 ioc own-oldest => ann 2: canceled 1 SELF_TRADE; canceled 1 IOC => 99 ann 1 |
bob sells 1 @ 99 own-oldest => 1 @ 99 ann: filled                 => |

# Both of one's own end, the newer after what it traded before
bob sells 2 @ 100           => rests 2                            => | 100 bob 2
ann sells 5 @ 100           => rests 5                            => | 100 bob 2 ann 5
ann sells 1 @ 102           => rests 1                            => | 100 bob 2 ann 5, 102 ann 1
ann buys 4 @ 105 own-both   => ann 1: canceled 5 SELF_TRADE; 2 @ 100 bob: canceled 2 SELF_TRADE => | 102 ann 1

# Decrement: the smaller ends and the larger loses as much; the older keeps its place
ann sells 5 @ 100           => rests 5                            => | 100 ann 5
bob sells 2 @ 100           => rests 2                            => | 100 ann 5 bob 2
ann buys 3 @ 100 own-decrement => ann 1: rests 2; canceled 3 SELF_TRADE => | 100 ann 2 bob 2
cat buys 1 @ 100            => 1 @ 100 ann: filled                => | 100 ann 1 bob 2
ann buys 4 @ 100 own-decrement => ann 1: canceled 1 SELF_TRADE; 2 @ 100 bob: rests 1 => 100 ann 1 |
ann sells 1 @ 100 own-decrement => ann 3: canceled 1 SELF_TRADE; canceled 1 SELF_TRADE => |

# Decrement at market: what is lost to one's own costs nothing
ann sells 1 @ 100           => rests 1                            => | 100 ann 1
bob sells 3 @ 110           => rests 3                            => | 100 ann 1, 110 bob 3
ann buys 3 for 220 own-decrement => ann 1: canceled 1 SELF_TRADE; 2 @ 110 bob: filled => | 110 bob 1

# Who allows it trades with himself
ann sells 2 @ 100           => rests 2                            => | 100 ann 2
ann buys 3 @ 100 own-allow  => 2 @ 100 ann: rests 1               => 100 ann 1 |
ann sells 1 @ 100           => canceled 1 SELF_TRADE              => 100 ann 1 |

# Fill or kill beside one's own: skipped if it is to be canceled, counted if one trades with it, else in the way
ann sells 2 @ 100           => rests 2                            => | 100 ann 2
bob sells 2 @ 100           => rests 2                            => | 100 ann 2 bob 2
ann buys 3 @ 100 fok own-oldest => canceled 3 FOK                 => | 100 ann 2 bob 2
ann buys 2 @ 100 fok own-both => canceled 2 FOK                   => | 100 ann 2 bob 2
ann buys 2 @ 100 fok own-decrement => canceled 2 FOK              => | 100 ann 2 bob 2
ann buys 2 @ 100 fok own-oldest => ann 1: canceled 2 SELF_TRADE; 2 @ 100 bob: filled => |
ann sells 2 @ 100           => rests 2                            => | 100 ann 2
ann buys 2 @ 100 fok own-allow => 2 @ 100 ann: filled             => |

# Good till date: ends at the first command of its time or later, before that command has its turn
ann buys 2 @ 100 till-4     => rests 2                            => 100 ann 2 |
bob buys 2 @ 100 till-9     => rests 2                            => 100 ann 2 bob 2 |
tick                        => later                              => 100 ann 2 bob 2 |
cat sells 1 @ 100           => ann 1: canceled 2 EXPIRED; 1 @ 100 bob: filled => 100 bob 1 |
ann buys 1 @ 99 till-5      => refused INVALID_EXPIRY             => 100 bob 1 |
ann buys 1 @ 99 till-7      => rests 1                            => 100 bob 1, 99 ann 1 |
ann cancels 3               => ann 3: canceled 1 EXPIRED; refused ORDER_NOT_FOUND => 100 bob 1 |
tick                        => later                              => 100 bob 1 |
tick                        => bob 1: canceled 1 EXPIRED          => |
tick                        => later                              => |

# Who is not heard of in time has nothing open any more: the clock says when
ann cancels after 3         => armed                              => |
ann buys 2 @ 100            => rests 2                            => 100 ann 2 |
bob buys 1 @ 100            => rests 1                            => 100 ann 2 bob 1 |
ann sells 1 @ 105           => rests 1                            => 100 ann 2 bob 1 | 105 ann 1
tick 2                      => later                              => 100 ann 2 bob 1 | 105 ann 1
ann cancels after 3         => armed                              => 100 ann 2 bob 1 | 105 ann 1
tick 2                      => later                              => 100 ann 2 bob 1 | 105 ann 1
tick 1                      => ann 1: canceled 2 CANCEL_AFTER; ann 2: canceled 1 CANCEL_AFTER => 100 bob 1 |
ann buys 1 @ 99             => rests 1                            => 100 bob 1, 99 ann 1 |
tick 9                      => later                              => 100 bob 1, 99 ann 1 |

# Who says that nothing is to be canceled keeps it, and an order may be younger than the switch
bob cancels after 1         => armed                              => |
cat cancels after 1         => armed                              => |
bob buys 1 @ 100            => rests 1                            => 100 bob 1 |
cat buys 1 @ 99             => rests 1                            => 100 bob 1, 99 cat 1 |
bob cancels after 0         => disarmed                           => 100 bob 1, 99 cat 1 |
dan cancels after 86401     => refused INVALID_FIELD              => 100 bob 1, 99 cat 1 |
tick 1                      => cat 1: canceled 1 CANCEL_AFTER     => 100 bob 1 |

# What waits is canceled too, and a group wholly: its exits do not begin
ann sells 1 @ 100           => rests 1                            => | 100 ann 1
bob buys 1 @ 100            => 1 @ 100 ann: filled                => |
cat first buys 2 @ 99 then sells 2 @ 110 / sells 2 at market stop-90 => cat 2: waits 2; cat 3: waits 2; rests 2 => 99 cat 2 | ~ cat 0 BTC, cat 0 BTC
cat buys 1 @ 105 stop-103   => waits 1 => 99 cat 2 | ~ cat 0 BTC, cat 0 BTC, cat 105 USD
cat cancels after 1         => armed => 99 cat 2 | ~ cat 0 BTC, cat 0 BTC, cat 105 USD
tick 1 => cat 1: canceled 2 CANCEL_AFTER; cat 2: canceled 2 CANCEL_AFTER; cat 3: canceled 2 LINKED; cat 4: canceled 1 CANCEL_AFTER => |

# Many expire at once, the earliest first, whatever else the command is
ann sells 1 @ 101 till-5    => rests 1                            => | 101 ann 1
bob buys 1 @ 99 till-4      => rests 1                            => 99 bob 1 | 101 ann 1
cat buys 3 @ 98 till-8      => rests 3                            => 99 bob 1, 98 cat 3 | 101 ann 1
dan buys 0 @ 99             => bob 1: canceled 1 EXPIRED; refused INVALID_QUANTITY => 98 cat 3 | 101 ann 1
cat cancels 1               => ann 1: canceled 1 EXPIRED; cat 1: canceled 3 USER => |
tick                        => later                              => |

# An order that was filled before its time does not expire
ann buys 1 @ 100 till-3     => rests 1                            => 100 ann 1 |
bob sells 1 @ 100           => 1 @ 100 ann: filled                => |
tick                        => later                              => |

# A minimum quantity is to be had at once, or nothing trades
ann sells 2 @ 100           => rests 2                            => | 100 ann 2
bob sells 2 @ 101           => rests 2                            => | 100 ann 2, 101 bob 2
cat buys 5 @ 100 least-3    => canceled 5 MINIMUM                 => | 100 ann 2, 101 bob 2
cat buys 5 @ 101 least-5    => canceled 5 MINIMUM                 => | 100 ann 2, 101 bob 2
cat buys 5 @ 101 least-6    => refused INVALID_MINIMUM            => | 100 ann 2, 101 bob 2
cat buys 5 @ 101 fok least-2 => refused INVALID_MINIMUM           => | 100 ann 2, 101 bob 2
cat buys 3 @ 101 ioc least-3 => 2 @ 100 ann, 1 @ 101 bob: filled  => | 101 bob 1
cat buys 5 @ 101 least-1    => 1 @ 101 bob: rests 4               => 101 cat 4 |
dan sells 9 at market least-5 => canceled 9 MINIMUM               => 101 cat 4 |
dan sells 9 at market least-4 => 4 @ 101 cat: canceled 5 IOC      => |

# A minimum counts what the budget reaches, and one's own order is in the way
ann sells 2 @ 100           => rests 2                            => | 100 ann 2
bob sells 2 @ 101           => rests 2                            => | 100 ann 2, 101 bob 2
cat buys 4 for 300 least-3  => canceled 4 MINIMUM                 => | 100 ann 2, 101 bob 2
bob buys 4 @ 101 least-3    => canceled 4 MINIMUM                 => | 100 ann 2, 101 bob 2
bob buys 4 @ 101 least-2    => 2 @ 100 ann: canceled 2 SELF_TRADE => | 101 bob 2
cat buys 4 for 301 least-2  => 2 @ 101 bob: canceled 2 IOC        => |

# A post-only order that would trade may rest one tick short instead
ann sells 2 @ 100           => rests 2                            => | 100 ann 2
bob buys 1 @ 105 post-only reprice => rests 1                     => 99 bob 1 | 100 ann 2
cat buys 1 @ 98 post-only reprice => rests 1                      => 99 bob 1, 98 cat 1 | 100 ann 2
dan sells 1 @ 90 post-only reprice => rests 1                     => 99 bob 1, 98 cat 1 | 100 ann 2 dan 1
dan sells 1 @ 99 reprice    => refused INVALID_FIELD              => 99 bob 1, 98 cat 1 | 100 ann 2 dan 1

# Repriced to where it rests already, a moved order keeps its place and what it shows; with more it does not
ann sells 2 @ 100           => rests 2                            => | 100 ann 2
bob buys 15 @ 99 post-only reprice show-5 => rests 15             => 99 bob 5+10 | 100 ann 2
cat buys 1 @ 99             => rests 1                            => 99 bob 5+10 cat 1 | 100 ann 2
dan sells 2 @ 99            => 2 @ 99 bob: filled                 => 99 bob 3+10 cat 1 | 100 ann 2
bob moves 1 to 15 @ 101     => bob 1: rests 13                    => 99 bob 3+10 cat 1 | 100 ann 2
bob moves 1 to 12 @ 100     => bob 1: rests 10                    => 99 bob 3+7 cat 1 | 100 ann 2
bob moves 1 to 13 @ 101     => bob 1: rests 11                    => 99 cat 1 bob 5+6 | 100 ann 2
dan sells 6 @ 99            => 1 @ 99 cat, 5 @ 99 bob: filled     => 99 bob 5+1 | 100 ann 2

# Moved to fewer at the same price an order keeps its place
ann buys 5 @ 100            => rests 5                            => 100 ann 5 |
bob buys 5 @ 100            => rests 5                            => 100 ann 5 bob 5 |
ann moves 1 to 2 @ 100      => ann 1: rests 2                     => 100 ann 2 bob 5 |
cat sells 3 @ 100           => 2 @ 100 ann, 1 @ 100 bob: filled   => 100 bob 4 |
bob moves 1 to 2 @ 100      => bob 1: rests 1                     => 100 bob 1 |
bob moves 1 to 2 @ 100      => bob 1: rests 1                     => 100 bob 1 |
bob moves 1 to 1 @ 100      => refused QUANTITY_TRADED            => 100 bob 1 |
ann moves 1 to 9 @ 100      => refused ORDER_NOT_FOUND            => 100 bob 1 |
ann moves 1 of bob to 9 @ 100 => refused ORDER_NOT_FOUND          => 100 bob 1 |

# Moved to more, or to another price, it loses its place
ann buys 2 @ 100            => rests 2                            => 100 ann 2 |
bob buys 2 @ 100            => rests 2                            => 100 ann 2 bob 2 |
ann moves 1 to 3 @ 100      => ann 1: rests 3                     => 100 bob 2 ann 3 |
bob moves 1 to 2 @ 99       => bob 1: rests 2                     => 100 ann 3, 99 bob 2 |
bob moves 1 to 1 @ 100      => bob 1: rests 1                     => 100 ann 3 bob 1 |
cat sells 4 @ 100           => 3 @ 100 ann, 1 @ 100 bob: filled   => |

# Moved across the spread it trades, what was filled before counts
ann buys 5 @ 99             => rests 5                            => 99 ann 5 |
bob sells 2 @ 99            => 2 @ 99 ann: filled                 => 99 ann 3 |
bob sells 2 @ 101           => rests 2                            => 99 ann 3 | 101 bob 2
ann moves 1 to 6 @ 101      => ann 1: 2 @ 101 bob: rests 2        => 101 ann 2 |
bob sells 1 @ 101           => 1 @ 101 ann: filled                => 101 ann 1 |
cat sells 9 @ 102           => rests 9                            => 101 ann 1 | 102 cat 9
ann moves 1 to 6 @ 102      => ann 1: 1 @ 102 cat: filled         => | 102 cat 8
cat moves 1 to 8 @ 103      => cat 1: rests 7                     => | 103 cat 7

# What cannot be asked of an order cannot be made of it, and nothing changes
ann buys 5 @ 100            => rests 5                            => 100 ann 5 |
bob buys 2 @ 90 post-only   => rests 2                            => 100 ann 5, 90 bob 2 |
cat sells 2 @ 110           => rests 2                            => 100 ann 5, 90 bob 2 | 110 cat 2
ann moves 1 to 2^63 @ 100   => refused INVALID_QUANTITY           => 100 ann 5, 90 bob 2 | 110 cat 2
ann moves 1 to 5 @ 2^63     => refused INVALID_PRICE              => 100 ann 5, 90 bob 2 | 110 cat 2
ann moves 1 to 1 @ 9        => refused NOTIONAL_TOO_SMALL         => 100 ann 5, 90 bob 2 | 110 cat 2
bob moves 1 to 2 @ 110      => refused WOULD_TRADE                => 100 ann 5, 90 bob 2 | 110 cat 2
bob moves 1 to 2 @ 109      => bob 1: rests 2                     => 109 bob 2, 100 ann 5 | 110 cat 2
cat moves 1 to 3 @ 100      => cat 1: 2 @ 109 bob, 1 @ 100 ann: filled => 100 ann 4 |
halt                        => halted                             => 100 ann 4 |
ann moves 1 to 4 @ 100      => refused MARKET_HALTED              => 100 ann 4 |

# What was moved has had its minimum
ann sells 2 @ 100           => rests 2                            => | 100 ann 2
bob buys 5 @ 100 least-2    => 2 @ 100 ann: rests 3               => 100 bob 3 |
bob moves 1 to 5 @ 99       => bob 1: rests 3                     => 99 bob 3 |

# A moved order that meets its owner's ends as a new one would
ann buys 2 @ 100            => rests 2                            => 100 ann 2 |
ann sells 2 @ 110           => rests 2                            => 100 ann 2 | 110 ann 2
ann moves 2 to 2 @ 100      => ann 2: canceled 2 SELF_TRADE       => 100 ann 2 |
ann sells 2 @ 110 own-oldest => rests 2                           => 100 ann 2 | 110 ann 2
ann moves 3 to 3 @ 100      => ann 1: canceled 2 SELF_TRADE; ann 3: rests 3 => | 100 ann 3

# Cancel all of one's own, or one side of them
ann buys 2 @ 100            => rests 2                            => 100 ann 2 |
bob buys 2 @ 100            => rests 2                            => 100 ann 2 bob 2 |
ann sells 2 @ 110           => rests 2                            => 100 ann 2 bob 2 | 110 ann 2
ann buys 1 @ 99             => rests 1                            => 100 ann 2 bob 2, 99 ann 1 | 110 ann 2
ann cancels all bids        => ann 1: canceled 2 USER; ann 3: canceled 1 USER => 100 bob 2 | 110 ann 2
ann cancels all bids        => nothing                            => 100 bob 2 | 110 ann 2
ann sells 3 @ 109           => rests 3                            => 100 bob 2 | 109 ann 3, 110 ann 2
ann cancels all             => ann 2: canceled 2 USER; ann 4: canceled 3 USER => 100 bob 2 |

# A stop sells when the last price has fallen to it, a take-profit when it has risen to it
ann buys 9 @ 90             => rests 9                            => 90 ann 9 |
bob sells 2 @ 100           => rests 2                            => 90 ann 9 | 100 bob 2
cat buys 1 @ 100            => 1 @ 100 bob: filled                => 90 ann 9 | 100 bob 1
dan sells 2 at market stop-95 => waits 2                          => 90 ann 9 | 100 bob 1 ~ dan 2 BTC
dan sells 1 @ 110 profit-105 => waits 1                           => 90 ann 9 | 100 bob 1 ~ dan 2 BTC, dan 1 BTC
bob buys 1 @ 95             => rests 1                => 95 bob 1, 90 ann 9 | 100 bob 1 ~ dan 2 BTC, dan 1 BTC
cat sells 1 @ 95            => 1 @ 95 bob: filled; dan 1: 2 @ 90 ann: filled => 90 ann 7 | 100 bob 1 ~ dan 1 BTC
cat buys 1 @ 100            => 1 @ 100 bob: filled                => 90 ann 7 | ~ dan 1 BTC
bob sells 1 @ 106           => rests 1                            => 90 ann 7 | 106 bob 1 ~ dan 1 BTC
cat buys 1 @ 106            => 1 @ 106 bob: filled; dan 2: rests 1 => 90 ann 7 | 110 dan 1

# A stop buys when the last price has risen to it, and keeps its budget aside until then
ann sells 5 @ 110           => rests 5                            => | 110 ann 5
bob buys 2 for 230 stop-105 => waits 2                            => | 110 ann 5 ~ bob 230 USD
dan buys 2 @ 111 stop-105   => waits 2                            => | 110 ann 5 ~ bob 230 USD, dan 222 USD
cat buys 1 @ 110 => 1 @ 110 ann: filled; bob 1: 2 @ 110 ann: filled; dan 1: 2 @ 110 ann: filled => |

# One whose price is there already goes at once; without any trade there is no price
ann buys 1 @ 100 stop-90    => waits 1                            => | ~ ann 100 USD
bob sells 2 @ 100           => rests 2                            => | 100 bob 2 ~ ann 100 USD
cat buys 1 @ 100            => 1 @ 100 bob: filled; ann 1: 1 @ 100 bob: filled => |
dan sells 1 @ 120 stop-100  => waits 1; rests 1                   => | 120 dan 1
dan sells 1 @ 121 profit-100 => waits 1; rests 1                  => | 120 dan 1, 121 dan 1
dan sells 1 @ 121 profit-101 => waits 1                           => | 120 dan 1, 121 dan 1 ~ dan 1 BTC

# Stops set each other off, the nearest first, then the oldest
ann buys 1 @ 100            => rests 1                            => 100 ann 1 |
ann buys 1 @ 99             => rests 1                            => 100 ann 1, 99 ann 1 |
ann buys 3 @ 98             => rests 3                            => 100 ann 1, 99 ann 1, 98 ann 3 |
bob sells 1 at market stop-99 => waits 1                          => 100 ann 1, 99 ann 1, 98 ann 3 | ~ bob 1 BTC
cat sells 1 at market stop-100 => waits 1             => 100 ann 1, 99 ann 1, 98 ann 3 | ~ bob 1 BTC, cat 1 BTC
dan sells 1 @ 100 => 1 @ 100 ann: filled; cat 1: 1 @ 99 ann: filled; bob 1: 1 @ 98 ann: filled => 98 ann 2 |
bob buys 1 for 99 stop-99   => waits 1                            => 98 ann 2 | ~ bob 99 USD
cat buys 1 for 99 stop-99   => waits 1                            => 98 ann 2 | ~ bob 99 USD, cat 99 USD
dan sells 1 @ 99            => rests 1                            => 98 ann 2 | 99 dan 1 ~ bob 99 USD, cat 99 USD
ann buys 1 @ 99 => 1 @ 99 dan: filled; bob 2: canceled 1 IOC; cat 2: canceled 1 IOC => 98 ann 2 |

# The quotes: a buy looks at the best ask, a sell at the best bid; an order that only rests or leaves may set one off
ann buys 5 @ 100            => rests 5                            => 100 ann 5 |
bob sells 1 at market quote-stop-99 => waits 1                    => 100 ann 5 | ~ bob 1 BTC
cat buys 1 @ 99             => rests 1                            => 100 ann 5, 99 cat 1 | ~ bob 1 BTC
ann cancels 1               => ann 1: canceled 5 USER; bob 1: 1 @ 99 cat: filled => |
dan buys 2 @ 120 quote-profit-110 => waits 2                      => | ~ dan 240 USD
ann sells 1 @ 111           => rests 1                            => | 111 ann 1 ~ dan 240 USD
ann sells 1 @ 110           => rests 1; dan 1: 1 @ 110 ann, 1 @ 111 ann: filled => |

# A trailing stop follows the price up, and sells when it has come back as far as told
ann buys 9 @ 80             => rests 9                            => 80 ann 9 |
bob sells 3 @ 100           => rests 3                            => 80 ann 9 | 100 bob 3
cat buys 1 @ 100            => 1 @ 100 bob: filled                => 80 ann 9 | 100 bob 2
dan sells 2 at market trail-5 => waits 2                          => 80 ann 9 | 100 bob 2 ~ dan 2 BTC
cat buys 2 @ 100            => 2 @ 100 bob: filled                => 80 ann 9 | ~ dan 2 BTC
bob sells 1 @ 110           => rests 1                            => 80 ann 9 | 110 bob 1 ~ dan 2 BTC
cat buys 1 @ 110            => 1 @ 110 bob: filled                => 80 ann 9 | ~ dan 2 BTC
bob buys 1 @ 106            => rests 1                            => 106 bob 1, 80 ann 9 | ~ dan 2 BTC
cat sells 1 @ 106           => 1 @ 106 bob: filled                => 80 ann 9 | ~ dan 2 BTC
bob buys 1 @ 105            => rests 1                            => 105 bob 1, 80 ann 9 | ~ dan 2 BTC
cat sells 1 @ 105           => 1 @ 105 bob: filled; dan 1: 2 @ 80 ann: filled => 80 ann 7 |

# And down, to buy
ann sells 9 @ 120           => rests 9                            => | 120 ann 9
dan buys 2 for 300 trail-5  => waits 2                            => | 120 ann 9 ~ dan 300 USD
cat sells 1 @ 100           => rests 1                            => | 100 cat 1, 120 ann 9 ~ dan 300 USD
bob buys 1 @ 100            => 1 @ 100 cat: filled                => | 120 ann 9 ~ dan 300 USD
cat sells 1 @ 104           => rests 1                            => | 104 cat 1, 120 ann 9 ~ dan 300 USD
bob buys 1 @ 104            => 1 @ 104 cat: filled                => | 120 ann 9 ~ dan 300 USD
cat sells 1 @ 105           => rests 1                            => | 105 cat 1, 120 ann 9 ~ dan 300 USD
bob buys 1 @ 105            => 1 @ 105 cat: filled; dan 1: 2 @ 120 ann: filled => | 120 ann 7

# What waits can be canceled, moved and expire, and ends as its time in force says
ann sells 1 @ 100           => rests 1                            => | 100 ann 1
bob buys 4 @ 100 ioc stop-99 => waits 4                           => | 100 ann 1 ~ bob 400 USD
cat buys 4 @ 101 stop-99    => waits 4                            => | 100 ann 1 ~ bob 400 USD, cat 404 USD
dan buys 4 @ 90 till-6 stop-99 => waits 4             => | 100 ann 1 ~ bob 400 USD, cat 404 USD, dan 360 USD
cat cancels 1               => canceled 4 USER        => | 100 ann 1 ~ bob 400 USD, dan 360 USD
tick                        => dan 1: canceled 4 EXPIRED          => | 100 ann 1 ~ bob 400 USD
bob moves 1 to 3 @ 102      => bob 1: waits 3                     => | 100 ann 1 ~ bob 306 USD
ann sells 1 @ 101           => rests 1                            => | 100 ann 1, 101 ann 1 ~ bob 306 USD
cat buys 1 @ 100            => 1 @ 100 ann: filled; bob 1: 1 @ 101 ann: canceled 2 IOC => |

# The fields of a trigger go together or not at all
ann buys 1 @ 100 stop-0     => refused INVALID_TRIGGER            => |
ann buys 1 @ 100 trail-0    => refused INVALID_TRIGGER            => |
ann buys 1 @ 100 trail-1 stop-9 => refused INVALID_TRIGGER        => |
ann buys 1 @ 100 stop-2^63  => refused INVALID_TRIGGER            => |

# An iceberg shows a part; when that has traded the next comes last in the queue
ann sells 7 @ 100 show-3    => rests 7                            => | 100 ann 3+4
bob sells 2 @ 100           => rests 2                            => | 100 ann 3+4 bob 2
cat buys 2 @ 100            => 2 @ 100 ann: filled                => | 100 ann 1+4 bob 2
cat buys 2 @ 100            => 1 @ 100 ann, 1 @ 100 bob: filled   => | 100 bob 1 ann 3+1
cat buys 5 @ 100            => 1 @ 100 bob, 3 @ 100 ann, 1 @ 100 ann: filled => |

# One that trades at once shows nothing of that, and the rest in parts
bob buys 4 @ 100            => rests 4                            => 100 bob 4 |
ann sells 9 @ 100 show-2    => 4 @ 100 bob: rests 5               => | 100 ann 2+3
dan buys 9 @ 99 show-2      => rests 9                            => 99 dan 2+7 | 100 ann 2+3
cat buys 5 @ 100 fok        => 2 @ 100 ann, 2 @ 100 ann, 1 @ 100 ann: filled => 99 dan 2+7 |
cat sells 9 at market fok => 2 @ 99 dan, 2 @ 99 dan, 2 @ 99 dan, 2 @ 99 dan, 1 @ 99 dan: filled => |

# Fill or kill counts what is hidden, after all that is shown at the price, and then the next price
ann sells 4 @ 100 show-1    => rests 4                            => | 100 ann 1+3
cat sells 1 @ 100           => rests 1                            => | 100 ann 1+3 cat 1
cat buys 2 @ 100 fok        => canceled 2 FOK                     => | 100 ann 1+3 cat 1
cat buys 1 @ 100 fok        => 1 @ 100 ann: filled                => | 100 cat 1 ann 1+2
bob buys 5 @ 100 fok        => canceled 5 FOK                     => | 100 cat 1 ann 1+2
bob buys 3 for 300 least-3  => 1 @ 100 cat, 1 @ 100 ann, 1 @ 100 ann: filled => | 100 ann 1

# An iceberg is canceled whole, shrinks below the water first, and moves as others do
ann sells 9 @ 100 show-2    => rests 9                            => | 100 ann 2+7
bob sells 1 @ 100           => rests 1                            => | 100 ann 2+7 bob 1
ann moves 1 to 5 @ 100      => ann 1: rests 5                     => | 100 ann 2+3 bob 1
ann moves 1 to 1 @ 100      => ann 1: rests 1                     => | 100 ann 1 bob 1
ann moves 1 to 6 @ 100      => ann 1: rests 6                     => | 100 bob 1 ann 2+4
ann buys 5 @ 101 own-decrement => ann 1: rests 2; 1 @ 100 bob: canceled 4 SELF_TRADE => | 100 ann 2
ann cancels 1               => canceled 2 USER                    => |
ann sells 3 @ 100 show-2    => rests 3                            => | 100 ann 2+1
ann cancels 3               => ann 3: canceled 3 USER             => |
ann sells 2 @ 100 show-2    => refused INVALID_DISPLAY            => |
ann sells 2 @ 100 ioc show-1 => refused INVALID_DISPLAY           => |
ann sells 2 at market show-1 => refused INVALID_DISPLAY           => |

# One cancels the other: when the limit trades at all the stop is gone; the larger of two locks is for both
ann both sells 3 @ 110 / sells 3 at market stop-90 => ann 2: waits 3; rests 3 => | 110 ann 3 ~ ann 0 BTC
ann moves 1 to 2 @ 110      => refused ORDER_LINKED               => | 110 ann 3 ~ ann 0 BTC
bob buys 1 @ 110 => ann 2: canceled 3 LINKED; 1 @ 110 ann: filled => | 110 ann 2
ann cancels 1               => canceled 2 USER                    => |

# When the stop is hit, the limit is gone
dan buys 9 @ 80             => rests 9                            => 80 dan 9 |
ann both sells 3 @ 110 / sells 2 at market stop-90 => ann 2: waits 2; rests 3 => 80 dan 9 | 110 ann 3 ~ ann 0 BTC
bob buys 1 @ 90             => rests 1            => 90 bob 1, 80 dan 9 | 110 ann 3 ~ ann 0 BTC
cat sells 1 @ 90 => 1 @ 90 bob: filled; ann 1: canceled 3 LINKED; ann 2: 2 @ 80 dan: filled => 80 dan 7 |

# When one ends otherwise the other ends too
ann both sells 2 @ 120 till-2 / sells 2 at market stop-80 => ann 2: waits 2; rests 2 => | 120 ann 2 ~ ann 0 BTC
tick => ann 1: canceled 2 EXPIRED; ann 2: canceled 2 LINKED       => |
ann both sells 2 @ 120 / sells 2 at market stop-80 => ann 4: waits 2; rests 2 => | 120 ann 2 ~ ann 0 BTC
ann cancels 4 => ann 4: canceled 2 USER; ann 3: canceled 2 LINKED => |

# A limit that trades as it comes takes the stop along
bob buys 1 @ 110            => rests 1                            => 110 bob 1 |
ann both sells 3 @ 110 / sells 3 at market stop-90 => ann 2: waits 3; ann 2: canceled 3 LINKED; 1 @ 110 bob: rests 2 => | 110 ann 2

# Exits wait for their entry and begin when it is filled, for what it brought
ann first buys 3 @ 100 then sells 9 @ 110 => ann 2: waits 9; rests 3 => 100 ann 3 | ~ ann 0 BTC
bob sells 2 @ 100           => 2 @ 100 ann: filled; ann 2: waits 9 => 100 ann 1 | ~ ann 2 BTC
bob sells 1 @ 100           => 1 @ 100 ann: filled; ann 2: rests 3 => | 110 ann 3

# An entry that was filled in part and canceled has exits for that part; with nothing they end
ann first buys 3 @ 100 then sells 3 @ 110 / sells 3 at market stop-90 => ann 2: waits 3; ann 3: waits 3; rests 3 => 100 ann 3 | ~ ann 0 BTC, ann 0 BTC
bob sells 1 @ 100           => 1 @ 100 ann: filled; ann 2: waits 3; ann 3: waits 3 => 100 ann 2 | ~ ann 1 BTC, ann 0 BTC
ann cancels 1 => ann 1: canceled 2 USER; ann 3: waits 1; ann 2: rests 1 => | 110 ann 1 ~ ann 0 BTC
ann cancels 2               => ann 2: canceled 1 USER; ann 3: canceled 1 LINKED => |
ann first buys 3 @ 100 then sells 3 @ 110 => ann 5: waits 3; rests 3 => 100 ann 3 | ~ ann 0 BTC
ann cancels 4               => ann 4: canceled 3 USER; ann 5: canceled 3 LINKED => |

# An entry that sells has exits that buy for what it brought, in whole lots
bob buys 2 @ 100            => rests 2                            => 100 bob 2 |
ann first sells 2 @ 100 then buys 9 @ 90 => ann 2: waits 9; 2 @ 100 bob: filled; ann 2: rests 2 => 90 ann 2 |
dan buys 1 @ 100            => rests 1                            => 100 dan 1, 90 ann 2 |
cat first sells 1 @ 100 then buys 5 for 400 ioc profit-80 => cat 2: waits 5; 1 @ 100 dan: filled; cat 2: waits 5 => 90 ann 2 | ~ cat 100 USD

# What an entry brings is set aside as it comes, by the exit that needs more of it: it cannot be spent meanwhile
ann first sells 3 @ 100 then buys 3 @ 90 / buys 3 for 400 ioc stop-120 => ann 2: waits 3; ann 3: waits 3; rests 3 => | 100 ann 3 ~ ann 0 USD, ann 0 USD
bob buys 1 @ 100            => 1 @ 100 ann: filled; ann 2: waits 3; ann 3: waits 3 => | 100 ann 2 ~ ann 0 USD, ann 100 USD
ann cancels 3               => ann 3: canceled 3 USER; ann 2: canceled 3 LINKED => | 100 ann 2

# An exit that is canceled before it begins takes the other along, and the entry goes on
ann first buys 3 @ 100 then sells 3 @ 110 / sells 3 at market stop-90 => ann 2: waits 3; ann 3: waits 3; rests 3 => 100 ann 3 | ~ ann 0 BTC, ann 0 BTC
ann cancels 3               => ann 3: canceled 3 USER; ann 2: canceled 3 LINKED => 100 ann 3 |
bob sells 3 @ 100           => 3 @ 100 ann: filled                => |

# What does not go together
ann both sells 3 @ 110 / sells 3 @ 111 => refused INVALID_GROUP   => |
ann both sells 3 @ 110 / buys 3 @ 90 stop-90 => refused INVALID_GROUP => |
ann both sells 3 @ 110 ioc / sells 3 @ 90 stop-90 => refused INVALID_GROUP => |
ann first buys 3 @ 110 then buys 3 @ 90 => refused INVALID_GROUP  => |
ann both sells 3 @ 110      => refused INVALID_GROUP              => |
ann first buys 3 @ 110 then sells 0 @ 90 => refused INVALID_QUANTITY => |
ann buys 1 @ 100            => rests 1                            => 100 ann 1 |

# A market collects orders before it opens, and then all trade at the price at which most can
pre-open                    => collects                           => |
ann buys 5 @ 103            => rests 5                            => 103 ann 5 |
bob sells 3 @ 100           => rests 3                            => 103 ann 5 | 100 bob 3
cat sells 4 @ 102           => rests 4                            => 103 ann 5 | 100 bob 3, 102 cat 4
dan buys 1 @ 101            => rests 1                            => 103 ann 5, 101 dan 1 | 100 bob 3, 102 cat 4
open => bob 1: 3 @ 102 ann: filled; cat 1: 2 @ 102 ann: rests 2; opened => 101 dan 1 | 102 cat 2

# Of two prices for as much, the one that leaves less; then the one nearer to the last
ann sells 1 @ 104           => rests 1                            => | 104 ann 1
bob buys 1 @ 104            => 1 @ 104 ann: filled                => |
pre-open                    => collects                           => |
ann buys 2 @ 105            => rests 2                            => 105 ann 2 |
bob sells 2 @ 101           => rests 2                            => 105 ann 2 | 101 bob 2
open                        => bob 2: 2 @ 105 ann: filled; opened => |
pre-open                    => collects                           => |
ann buys 2 @ 105            => rests 2                            => 105 ann 2 |
bob sells 2 @ 101           => rests 2                            => 105 ann 2 | 101 bob 2
cat sells 1 @ 104           => rests 1                            => 105 ann 2 | 101 bob 2, 104 cat 1
open                        => bob 3: 2 @ 101 ann: filled; opened => | 104 cat 1

# Before the opening only what can rest without a trade is taken, or what waits
pre-open                    => collects                           => |
ann buys 5 @ 100 ioc        => refused MARKET_IN_AUCTION          => |
ann sells 1 at market       => refused MARKET_IN_AUCTION          => |
ann buys 5 @ 100 post-only  => refused MARKET_IN_AUCTION          => |
ann buys 5 @ 100 least-1    => refused MARKET_IN_AUCTION          => |
dan buys 1 @ 107 ioc stop-100 => waits 1                          => | ~ dan 107 USD
bob buys 1 @ 105            => rests 1                            => 105 bob 1 | ~ dan 107 USD
cat sells 2 @ 105           => rests 2                            => 105 bob 1 | 105 cat 2 ~ dan 107 USD
bob moves 1 to 1 @ 106      => bob 1: rests 1                     => 106 bob 1 | 105 cat 2 ~ dan 107 USD
open => bob 1: 1 @ 105 cat: filled; dan 1: 1 @ 105 cat: filled; opened => |

# In the auction, too, nobody trades with himself, and an order that would cross once that is gone trades again
pre-open                    => collects                           => |
ann buys 2 @ 101            => rests 2                            => 101 ann 2 |
ann sells 2 @ 100           => rests 2                            => 101 ann 2 | 100 ann 2
bob sells 1 @ 100           => rests 1                            => 101 ann 2 | 100 ann 2 bob 1
open => ann 2: canceled 2 SELF_TRADE; bob 1: 1 @ 100 ann: filled; opened => 101 ann 1 |

# An exit that waits behind its entry ends when its time is over, and the other exit with it
ann first buys 3 @ 100 then sells 3 @ 110 till-4 / sells 3 @ 90 stop-95 => ann 2: waits 3; ann 3: waits 3; rests 3 => 100 ann 3 | ~ ann 0 BTC, ann 0 BTC
bob sells 1 @ 100           => 1 @ 100 ann: filled; ann 2: waits 3; ann 3: waits 3 => 100 ann 2 | ~ ann 1 BTC, ann 0 BTC
tick                        => later                             => 100 ann 2 | ~ ann 1 BTC, ann 0 BTC
tick                        => ann 2: canceled 3 EXPIRED; ann 3: canceled 3 LINKED => 100 ann 2 |
bob sells 2 @ 100           => 2 @ 100 ann: filled               => |

# What an exit of the day waits for may be GTC: the day ends both exits
ann first buys 2 @ 100 then sells 2 @ 110 day / sells 2 @ 90 stop-95 => ann 2: waits 2; ann 3: waits 2; rests 2 => 100 ann 2 | ~ ann 0 BTC, ann 0 BTC
bob sells 1 @ 100           => 1 @ 100 ann: filled; ann 2: waits 2; ann 3: waits 2 => 100 ann 1 | ~ ann 1 BTC, ann 0 BTC
close                       => ann 2: canceled 2 DAY_END; ann 3: canceled 2 LINKED; closed => 100 ann 1 |
open                        => opened                            => 100 ann 1 |
bob sells 1 @ 100           => 1 @ 100 ann: filled               => |

# An exit whose time is over when its entry trades does not begin
ann first buys 2 @ 100 then sells 2 @ 98 till-3 => ann 2: waits 2; rests 2           => 100 ann 2 | ~ ann 0 BTC
cat buys 2 @ 98             => rests 2                           => 100 ann 2, 98 cat 2 | ~ ann 0 BTC
bob sells 2 @ 100           => ann 2: canceled 2 EXPIRED; 2 @ 100 ann: filled => 98 cat 2 |

# In the auction, too, the newer one's mode says what happens: its older order ends
pre-open                    => collects                          => |
ann buys 2 @ 102            => rests 2                           => 102 ann 2 |
bob buys 2 @ 101            => rests 2                           => 102 ann 2, 101 bob 2 |
ann sells 2 @ 100 own-oldest => rests 2                           => 102 ann 2, 101 bob 2 | 100 ann 2
open                        => ann 1: canceled 2 SELF_TRADE; ann 2: 2 @ 100 bob: filled; opened => |

# Both of one's own end in the auction
pre-open                    => collects                          => |
ann buys 2 @ 102            => rests 2                           => 102 ann 2 |
bob buys 3 @ 101            => rests 3                           => 102 ann 2, 101 bob 3 |
ann sells 2 @ 100 own-both  => rests 2                           => 102 ann 2, 101 bob 3 | 100 ann 2
cat sells 1 @ 100           => rests 1                           => 102 ann 2, 101 bob 3 | 100 ann 2 cat 1
open => ann 1: canceled 2 SELF_TRADE; ann 2: canceled 2 SELF_TRADE; cat 1: 1 @ 100 bob: filled; opened => 101 bob 2 |

# In the auction the smaller of two of one's own ends, and the larger is less by as much
pre-open                    => collects                          => |
ann buys 5 @ 102 show-2     => rests 5                           => 102 ann 2+3 |
bob buys 2 @ 101            => rests 2                           => 102 ann 2+3, 101 bob 2 |
ann sells 2 @ 100 own-decrement => rests 2                           => 102 ann 2+3, 101 bob 2 | 100 ann 2
cat sells 4 @ 100           => rests 4                           => 102 ann 2+3, 101 bob 2 | 100 ann 2 cat 4
open => ann 1: rests 3; ann 2: canceled 2 SELF_TRADE; cat 1: 2 @ 100 ann: rests 2; ann 1: 1 @ 100 cat: filled; cat 1: 1 @ 100 bob: filled; opened => 101 bob 1 |

# In the auction the newer of two of one's own may be the larger
pre-open                    => collects                          => |
ann sells 2 @ 100           => rests 2                           => | 100 ann 2
bob sells 2 @ 100           => rests 2                           => | 100 ann 2 bob 2
ann buys 5 @ 101 own-decrement => rests 5                           => 101 ann 5 | 100 ann 2 bob 2
open => ann 1: canceled 2 SELF_TRADE; ann 2: rests 3; ann 2: 2 @ 100 bob: rests 1; opened => 101 ann 1 |

# Two of one's own of the same size end both in the auction
pre-open                    => collects                          => |
ann sells 2 @ 100           => rests 2                           => | 100 ann 2
ann buys 2 @ 101 own-decrement => rests 2                           => 101 ann 2 | 100 ann 2
bob buys 1 @ 99             => rests 1                           => 101 ann 2, 99 bob 1 | 100 ann 2
open                        => ann 1: canceled 2 SELF_TRADE; ann 2: canceled 2 SELF_TRADE; opened => 99 bob 1 |

# An exit goes on in the auction where its owner's older order ends, and cancels the other as it trades
pre-open                    => collects                          => |
ann buys 2 @ 102            => rests 2                           => 102 ann 2 |
ann both sells 2 @ 100 own-oldest / sells 2 @ 90 stop-95 => ann 3: waits 2; rests 2 => 102 ann 2 | 100 ann 2 ~ ann 0 BTC
bob buys 1 @ 100            => rests 1                           => 102 ann 2, 100 bob 1 | 100 ann 2 ~ ann 0 BTC
open => ann 1: canceled 2 SELF_TRADE; ann 3: canceled 2 LINKED; bob 1: 1 @ 100 ann: filled; opened => | 100 ann 1

# Edition 0: in the auction the newer of one's own ends, whatever it says; a leader of today goes by its word
pre-open                    => collects                          => |
ann buys 2 @ 102            => rests 2                           => 102 ann 2 |
ann sells 2 @ 100 own-oldest => rests 2                           => 102 ann 2 | 100 ann 2
open                        => ann 2: canceled 2 SELF_TRADE; opened => 102 ann 2 |
pre-open                    => collects                          => 102 ann 2 |
lead                        => leads                             => 102 ann 2 |
ann sells 2 @ 100 own-oldest => rests 2                           => 102 ann 2 | 100 ann 2
open                        => ann 1: canceled 2 SELF_TRADE; opened => | 100 ann 2

# Edition 0: exits that wait do not expire while they do; a leader of today ends those that still wait
ann first buys 3 @ 100 then sells 3 @ 110 till-3 => ann 2: waits 3; rests 3           => 100 ann 3 | ~ ann 0 BTC
tick                        => later                             => 100 ann 3 | ~ ann 0 BTC
bob sells 1 @ 100           => 1 @ 100 ann: filled; ann 2: waits 3 => 100 ann 2 | ~ ann 1 BTC
lead                        => leads                             => 100 ann 2 | ~ ann 1 BTC
tick                        => ann 2: canceled 3 EXPIRED         => 100 ann 2 |
bob sells 2 @ 100           => 2 @ 100 ann: filled               => |

# Icebergs trade in the auction with all they have
pre-open                    => collects                           => |
ann buys 5 @ 101 show-2     => rests 5                            => 101 ann 2+3 |
bob sells 4 @ 100           => rests 4                            => 101 ann 2+3 | 100 bob 4
open => bob 1: 2 @ 100 ann: rests 2; ann 1: 2 @ 100 bob: rests 1; opened => 101 ann 1 |

# A halted market that collected before opens with its auction
pre-open                    => collects                           => |
ann buys 1 @ 101            => rests 1                            => 101 ann 1 |
bob sells 1 @ 101           => rests 1                            => 101 ann 1 | 101 bob 1
halt                        => halted                             => 101 ann 1 | 101 bob 1
cat buys 1 @ 101            => refused MARKET_HALTED              => 101 ann 1 | 101 bob 1
open                        => bob 1: 1 @ 101 ann: filled; opened => |

# Orders of the day end when the market closes; a closed market takes cancels only
ann buys 1 @ 100 day        => rests 1                            => 100 ann 1 |
bob buys 1 @ 99             => rests 1                            => 100 ann 1, 99 bob 1 |
close                       => ann 1: canceled 1 DAY_END; closed  => 99 bob 1 |
cat sells 1 @ 99            => refused MARKET_CLOSED              => 99 bob 1 |
bob moves 1 to 1 @ 98       => refused MARKET_CLOSED              => 99 bob 1 |
bob cancels 1               => canceled 1 USER                    => |
open                        => opened                             => |

# Who cancels is told, of one order and of all
ann buys 1 @ 100            => rests 1                            => 100 ann 1 |
ann buys 1 @ 99             => rests 1                            => 100 ann 1, 99 ann 1 |
ann buys 1 @ 98             => rests 1                            => 100 ann 1, 99 ann 1, 98 ann 1 |
ann cancels 1 for disconnect => canceled 1 DISCONNECT             => 99 ann 1, 98 ann 1 |
ann cancels all for operator => ann 2: canceled 1 OPERATOR; ann 3: canceled 1 OPERATOR => |
bob sells 1 @ 100 till-99   => rests 1                            => | 100 bob 1
bob cancels 1 for operator  => canceled 1 OPERATOR                => |

# Exits whose entry ends while the market takes no orders end with it
ann first buys 4 @ 100 then sells 4 @ 110 => ann 2: waits 4; rests 4 => 100 ann 4 | ~ ann 0 BTC
bob sells 3 @ 100           => 3 @ 100 ann: filled; ann 2: waits 4 => 100 ann 1 | ~ ann 3 BTC
halt                        => halted                             => 100 ann 1 | ~ ann 3 BTC
ann cancels 1               => ann 1: canceled 1 USER; ann 2: canceled 4 MARKET => |

# Least, most, and how much it may be worth
rules 2 5 600 0             => opened                             => |
ann buys 1 @ 100            => refused QUANTITY_TOO_SMALL         => |
ann buys 6 @ 100            => refused QUANTITY_TOO_LARGE         => |
ann buys 5 @ 121            => refused NOTIONAL_TOO_LARGE         => |
ann buys 5 @ 120            => rests 5                            => 120 ann 5 |
ann moves 4 to 4 @ 151      => refused NOTIONAL_TOO_LARGE         => 120 ann 5 |
bob buys 5 for 601          => refused NOTIONAL_TOO_LARGE         => 120 ann 5 |
bob sells 6 at market       => refused QUANTITY_TOO_LARGE         => 120 ann 5 |
rules 0 0 0 0 200           => opened                             => 120 ann 5 |
ann buys 1 @ 199            => refused NOTIONAL_TOO_SMALL         => 120 ann 5 |
ann moves 4 to 1 @ 199      => refused NOTIONAL_TOO_SMALL         => 120 ann 5 |
ann buys 1 @ 2              => refused NOTIONAL_TOO_SMALL         => 120 ann 5 |
rules 0 0 0 0               => opened                             => 120 ann 5 |
ann buys 1 @ 2              => rests 1                            => 120 ann 5, 2 ann 1 |
ann cancels 7               => canceled 1 USER                    => 120 ann 5 |
bob sells 6 at market       => 5 @ 120 ann: canceled 1 IOC        => |

# No price is further from the last one than the band allows, and none is traded at
ann sells 1 @ 100           => rests 1                            => | 100 ann 1
ann sells 2 @ 104           => rests 2                            => | 100 ann 1, 104 ann 2
ann sells 2 @ 110           => rests 2                            => | 100 ann 1, 104 ann 2, 110 ann 2
rules 0 0 0 50000           => opened                             => | 100 ann 1, 104 ann 2, 110 ann 2
bob buys 1 @ 500            => 1 @ 100 ann: filled                => | 104 ann 2, 110 ann 2
cat buys 1 @ 106            => refused PRICE_OUT_OF_BAND          => | 104 ann 2, 110 ann 2
cat buys 1 @ 94             => refused PRICE_OUT_OF_BAND          => | 104 ann 2, 110 ann 2
cat buys 1 @ 105            => 1 @ 104 ann: filled                => | 104 ann 1, 110 ann 2
cat buys 5 for 999          => 1 @ 104 ann: canceled 4 BAND       => | 110 ann 2
cat buys 1 for 999 fok      => canceled 1 FOK                     => | 110 ann 2
cat buys 1 for 999          => canceled 1 BAND                    => | 110 ann 2
cat buys 1 @ 99             => rests 1                            => 99 cat 1 | 110 ann 2
dan sells 2 at market       => 1 @ 99 cat: canceled 1 IOC         => | 110 ann 2

# What a stop that is released brings to an entry is set aside in that same event
ann first buys 3 @ 100 then sells 3 @ 110 => ann 2: waits 3; rests 3 => 100 ann 3 | ~ ann 0 BTC
bob sells 1 at market stop-102 => waits 1 => 100 ann 3 | ~ ann 0 BTC, bob 1 BTC
cat buys 1 @ 102            => rests 1                            => 102 cat 1, 100 ann 3 | ~ ann 0 BTC, bob 1 BTC
dan sells 1 @ 102           => 1 @ 102 cat: filled; bob 1: 1 @ 100 ann: filled; ann 2: waits 3 => 100 ann 2 | ~ ann 1 BTC

# The band goes by the reference price while that is fresh, 30 seconds, and else by the last one
ann sells 1 @ 100           => rests 1                            => | 100 ann 1
ann sells 9 @ 124           => rests 9                            => | 100 ann 1, 124 ann 9
rules 0 0 0 50000           => opened                             => | 100 ann 1, 124 ann 9
elsewhere 120               => told 120                           => | 100 ann 1, 124 ann 9
bob sells 1 @ 113           => refused PRICE_OUT_OF_BAND          => | 100 ann 1, 124 ann 9
bob buys 1 @ 127            => refused PRICE_OUT_OF_BAND          => | 100 ann 1, 124 ann 9
bob buys 1 @ 126            => 1 @ 100 ann: filled                => | 124 ann 9
cat buys 1 @ 105            => refused PRICE_OUT_OF_BAND          => | 124 ann 9
cat buys 1 for 999          => 1 @ 124 ann: filled                => | 124 ann 8
elsewhere 100               => told 100                           => | 124 ann 8
cat buys 1 for 999          => canceled 1 BAND                    => | 124 ann 8
cat buys 1 for 999 fok      => canceled 1 FOK                     => | 124 ann 8
cat buys 1 @ 120            => refused PRICE_OUT_OF_BAND          => | 124 ann 8
cat buys 1 @ 105            => rests 1                            => 105 cat 1 | 124 ann 8
cat moves 6 to 1 @ 106      => refused PRICE_OUT_OF_BAND          => 105 cat 1 | 124 ann 8
cat moves 6 to 1 @ 104      => cat 6: rests 1                     => 104 cat 1 | 124 ann 8
tick 29                     => later                              => 104 cat 1 | 124 ann 8
bob buys 1 @ 120            => refused PRICE_OUT_OF_BAND          => 104 cat 1 | 124 ann 8
tick 1                      => later                              => 104 cat 1 | 124 ann 8
bob buys 1 @ 120            => rests 1                            => 120 bob 1, 104 cat 1 | 124 ann 8
bob buys 1 @ 100            => refused PRICE_OUT_OF_BAND          => 120 bob 1, 104 cat 1 | 124 ann 8
bob buys 1 for 999          => 1 @ 124 ann: filled                => 120 bob 1, 104 cat 1 | 124 ann 7
rules 0 0 0 50000 0 0 60    => opened                             => 120 bob 1, 104 cat 1 | 124 ann 7
bob buys 1 for 999          => canceled 1 BAND                    => 120 bob 1, 104 cat 1 | 124 ann 7
rules 0 0 0 50000 0 0 1     => opened                             => 120 bob 1, 104 cat 1 | 124 ann 7
bob buys 1 for 999          => 1 @ 124 ann: filled                => 120 bob 1, 104 cat 1 | 124 ann 6
rules 0 0 0 0               => opened                             => 120 bob 1, 104 cat 1 | 124 ann 6
elsewhere 50                => told 50                            => 120 bob 1, 104 cat 1 | 124 ann 6
bob buys 1 for 999          => 1 @ 124 ann: filled                => 120 bob 1, 104 cat 1 | 124 ann 5

# A reference price is a band before anything has traded, in every state of the market
rules 0 0 0 50000           => opened                             => |
ann buys 1 @ 500            => rests 1                            => 500 ann 1 |
pre-open                    => collects                           => 500 ann 1 |
elsewhere 100               => told 100                           => 500 ann 1 |
ann buys 1 @ 106            => refused PRICE_OUT_OF_BAND          => 500 ann 1 |
ann buys 1 @ 105            => rests 1                            => 500 ann 1, 105 ann 1 |
halt                        => halted                             => 500 ann 1, 105 ann 1 |
elsewhere 110               => told 110                           => 500 ann 1, 105 ann 1 |

# A stop that is released goes by the reference price of that moment
rules 0 0 0 50000           => opened                             => |
ann sells 1 @ 100           => rests 1                            => | 100 ann 1
ann sells 1 @ 120           => rests 1                            => | 100 ann 1, 120 ann 1
cat buys 1 for 999 stop-100 => waits 1                            => | 100 ann 1, 120 ann 1 ~ cat 999 USD
elsewhere 118               => told 118                           => | 100 ann 1, 120 ann 1 ~ cat 999 USD
bob buys 1 @ 118            => 1 @ 100 ann: filled; cat 1: 1 @ 120 ann: filled => |

# A reference price is neither older than it may be, nor older than the one that stands
tick 100                    => later                              => |
elsewhere 100 seen 31 ago   => refused REFERENCE_OUTDATED         => |
elsewhere 100 seen 30 ago   => told 100                           => |
elsewhere 101 seen 31 ago   => refused REFERENCE_OUTDATED         => |
elsewhere 101 seen 20 ago   => told 101                           => |
elsewhere 102 seen 21 ago   => refused REFERENCE_OUTDATED         => |
rules 0 0 0 0 0 0 5         => opened                             => |
elsewhere 102 seen 6 ago    => refused REFERENCE_OUTDATED         => |
elsewhere 102 seen 5 ago    => told 102                           => |
rules 0 0 0 0 0 0 86401     => refused INVALID_FIELD              => |

# A market sell takes every bid there is
ann buys 2 @ 100            => rests 2                            => 100 ann 2 |
bob buys 2 @ 10             => rests 2                            => 100 ann 2, 10 bob 2 |
cat sells 3 at market       => 2 @ 100 ann, 1 @ 10 bob: filled    => 10 bob 1 |
cat sells 3 at market       => 1 @ 10 bob: canceled 2 IOC         => |
cat sells 3 at market       => canceled 3 IOC                     => |

# A market buy spends at most its budget
ann sells 3 @ 100           => rests 3                            => | 100 ann 3
bob sells 3 @ 110           => rests 3                            => | 100 ann 3, 110 bob 3
cat buys 1 for 99           => canceled 1 BUDGET                  => | 100 ann 3, 110 bob 3
cat buys 1 for 100          => 1 @ 100 ann: filled                => | 100 ann 2, 110 bob 3
cat buys 9 for 199          => 1 @ 100 ann: canceled 8 BUDGET     => | 100 ann 1, 110 bob 3
cat buys 9 for 325          => 1 @ 100 ann, 2 @ 110 bob: canceled 6 BUDGET => | 110 bob 1
cat buys 9 for 999          => 1 @ 110 bob: canceled 8 IOC        => |
cat buys 9 for 999          => canceled 9 IOC                     => |

# A market order that fills or is killed, budget and all
ann sells 2 @ 100           => rests 2                            => | 100 ann 2
bob sells 2 @ 110           => rests 2                            => | 100 ann 2, 110 bob 2
cat buys 3 for 309 fok      => canceled 3 FOK                     => | 100 ann 2, 110 bob 2
cat buys 5 for 999 fok      => canceled 5 FOK                     => | 100 ann 2, 110 bob 2
cat buys 3 for 310 fok      => 2 @ 100 ann, 1 @ 110 bob: filled   => | 110 bob 1
cat sells 1 at market fok   => canceled 1 FOK                     => | 110 bob 1

# One's own order counts only where the budget reaches it
ann sells 1 @ 110           => rests 1                            => | 110 ann 1
ann buys 1 for 109          => canceled 1 BUDGET                  => | 110 ann 1
ann buys 1 for 110          => canceled 1 SELF_TRADE              => | 110 ann 1

# Cancel: first, last, middle and only one of a price
ann buys 1 @ 100            => rests 1                            => 100 ann 1 |
bob buys 2 @ 100            => rests 2                            => 100 ann 1 bob 2 |
cat buys 3 @ 100            => rests 3                            => 100 ann 1 bob 2 cat 3 |
dan buys 4 @ 100            => rests 4                            => 100 ann 1 bob 2 cat 3 dan 4 |
bob cancels 1               => canceled 2 USER                    => 100 ann 1 cat 3 dan 4 |
ann cancels 1               => canceled 1 USER                    => 100 cat 3 dan 4 |
dan cancels 1               => canceled 4 USER                    => 100 cat 3 |
cat cancels 1               => canceled 3 USER                    => |

# A canceled price is gone, and the next best is the best
ann sells 1 @ 100           => rests 1                            => | 100 ann 1
ann sells 1 @ 101           => rests 1                            => | 100 ann 1, 101 ann 1
ann sells 1 @ 102           => rests 1                            => | 100 ann 1, 101 ann 1, 102 ann 1
ann cancels 2               => canceled 1 USER                    => | 100 ann 1, 102 ann 1
ann cancels 1               => canceled 1 USER                    => | 102 ann 1
bob buys 1 @ 105            => 1 @ 102 ann: filled                => |

# What is left of a part-filled order can be canceled, and not twice
ann sells 5 @ 100           => rests 5                            => | 100 ann 5
bob buys 2 @ 100            => 2 @ 100 ann: filled                => | 100 ann 3
ann cancels 1               => canceled 3 USER                    => |
ann cancels 1               => refused ORDER_NOT_FOUND            => |
bob cancels 1               => refused ORDER_NOT_FOUND            => |

# Other people's orders are not found
ann buys 5 @ 100            => rests 5                            => 100 ann 5 |
bob cancels 1 of ann        => refused ORDER_NOT_FOUND            => 100 ann 5 |
ann cancels 1               => canceled 5 USER                    => |

# A filled order cannot be canceled
ann buys 5 @ 100            => rests 5                            => 100 ann 5 |
bob sells 5 @ 100           => 5 @ 100 ann: filled                => |
ann cancels 1               => refused ORDER_NOT_FOUND            => |

# A halted market takes cancels only, and trades on when it is open again
ann buys 5 @ 100            => rests 5                            => 100 ann 5 |
bob buys 5 @ 100            => rests 5                            => 100 ann 5 bob 5 |
halt                        => halted                             => 100 ann 5 bob 5 |
cat sells 1 @ 100           => refused MARKET_HALTED              => 100 ann 5 bob 5 |
cat sells 1 at market       => refused MARKET_HALTED              => 100 ann 5 bob 5 |
ann cancels 1               => canceled 5 USER                    => 100 bob 5 |
open                        => opened                             => 100 bob 5 |
cat sells 1 @ 100           => 1 @ 100 bob: filled                => 100 bob 4 |

# Too small, too large, and exactly at the edge
ann buys 1 @ 9              => refused NOTIONAL_TOO_SMALL         => |
ann buys 1 @ 10             => rests 1                            => 10 ann 1 |
ann buys 0 @ 100            => refused INVALID_QUANTITY           => 10 ann 1 |
ann buys 2^63 @ 100         => refused INVALID_QUANTITY           => 10 ann 1 |
ann buys 100 @ 0            => refused INVALID_PRICE              => 10 ann 1 |
ann buys 1 @ 2^63           => refused INVALID_PRICE              => 10 ann 1 |
ann buys 1 for 0            => refused INVALID_FIELD              => 10 ann 1 |
bob sells MAX @ MAX         => rests MAX                          => 10 ann 1 | MAX bob MAX
cat sells MAX @ MAX         => rests MAX                          => 10 ann 1 | MAX bob MAX cat MAX
dan buys MAX @ MAX          => MAX @ MAX bob: filled              => 10 ann 1 | MAX cat MAX
"""


class Row(NamedTuple):
    """One command."""

    command: str
    outcome: str
    book: str


class Scenario(NamedTuple):
    """A title and its rows."""

    title: str
    rows: list[Row]


def scenarios() -> Iterator[Scenario]:
    """The tables above."""
    text = ROWS.replace("MAX", str(INT64_MAX)).replace("2^63", str(INT64_MAX + 1))
    for block in text.strip().split("\n\n"):
        title, *lines = block.splitlines()
        yield Scenario(title.removeprefix("# "), [Row(*(cell.strip() for cell in line.split("=>"))) for line in lines])


class Floor:
    """An engine with one market and four people, who are spoken to in plain words."""

    def __init__(self, edition: int = m.EDITION) -> None:
        self.engine = Engine()
        self.number = self.time_ns = 0
        self.order_ids: dict[str, list[int]] = {name: [] for name in WHO}
        self.owners: dict[int, str] = {}
        market = m.Market(0, "BTC-USD", 1, 2, "1", "1", NOTIONAL_MIN)
        bodies: list[m.CommandBody] = [
            m.LeaderStarted(1, "tables", edition),
            m.OpenSession(GATEWAY),
            m.CreateAsset(m.Asset(0, "BTC", 0)),
            m.CreateAsset(m.Asset(0, "USD", 0)),
            m.CreateMarket(market),
            *(m.OpenAccount(name) for name in WHO),
        ]
        for body in bodies:
            self.engine.apply(m.Command(0, body), 0)

    def say(self, text: str) -> m.Event:
        """Applies one command in words."""
        self.time_ns += 1
        if text.startswith("tick"):
            self.time_ns += int(text.removeprefix("tick") or 0) * NS_PER_SECOND
            return self.engine.apply(m.Command(0, m.AdvanceTime()), self.time_ns)
        if text == "lead":
            return self.engine.apply(m.Command(0, m.LeaderStarted(self.engine.epoch + 1, "tables")), self.time_ns)
        if text in STATES:
            return self.engine.apply(m.Command(0, m.ChangeMarket(1, STATES[text])), self.time_ns)
        if text.startswith("elsewhere "):
            price, ago = text.replace("seen", "").split()[1:3] if "seen" in text else (text.split()[1], "0")
            seen_ns = self.time_ns - int(ago) * NS_PER_SECOND
            told = m.SetReferencePrice(1, int(price), "elsewhere", seen_ns)
            return self.engine.apply(m.Command(0, told), self.time_ns)
        if text.startswith("rules "):
            numbers: list[Any] = [int(part) for part in text.split()[1:]]
            rules = m.MarketRules(*numbers)
            return self.engine.apply(m.Command(0, m.ChangeMarket(1, 0, rules)), self.time_ns)
        self.number += 1
        command_id = command_id_of(GATEWAY, 1, self.number)
        body = (
            self._cancel(text) or self._replace(text) or self._group(text, command_id) or self._place(text, command_id)
        )
        self.number += m.numbers_of(body) - 1
        return self.engine.apply(m.Command(command_id, body), self.time_ns)

    def _group(self, text: str, command_id: int) -> m.PlaceGroup | None:
        match = re.fullmatch(r"(\w+) (both|first) (.*)", text)
        if match is None:
            return None
        orders = re.split(r" then | / ", match[3])
        placed = [self._place(f"{match[1]} {order}", command_id + number) for number, order in enumerate(orders)]
        return m.PlaceGroup(None, placed) if match[2] == "both" else m.PlaceGroup(placed[0], placed[1:])

    def _replace(self, text: str) -> m.CommandBody | None:
        match = re.fullmatch(r"(\w+) cancels after (\d+)", text)
        if match is not None:
            return m.CancelAfter(WHO[match[1]], 0, int(match[2]))
        match = re.fullmatch(r"(\w+) cancels all ?(bids|asks|)(?: ?for (\w+))?", text)
        if match is not None:
            side = {"bids": m.SIDE_BUY, "asks": m.SIDE_SELL, "": 0}[match[2]]
            return m.CancelOrders(WHO[match[1]], 1 if side else 0, side, ASKED_CAUSES[match[3]])
        match = re.fullmatch(r"(\w+) moves (\d+)(?: of (\w+))? to (\d+) @ (\d+)", text)
        if match is None:
            return None
        order_id = self.order_ids[match[3] or match[1]][int(match[2]) - 1]
        return m.ReplaceOrder(WHO[match[1]], order_id, int(match[5]), int(match[4]))

    def _cancel(self, text: str) -> m.CancelOrder | None:
        match = re.fullmatch(r"(\w+) cancels (\d+)(?: of (\w+))?(?: for (\w+))?", text)
        if match is None:
            return None
        order_id = self.order_ids[match[3] or match[1]][int(match[2]) - 1]
        return m.CancelOrder(WHO[match[1]], order_id, ASKED_CAUSES[match[4]])

    def _place(self, text: str, command_id: int) -> m.PlaceOrder:
        match = re.fullmatch(r"(\w+) (buys|sells) (\d+) (?:@ (\d+)|for (\d+)|at market)((?: [\w-]+)*)", text)
        assert match is not None, f"unreadable: {text}"
        who, verb, lots, price, budget, said = match.groups()
        how = said.split()
        self.order_ids[who].append(command_id)
        self.owners[command_id] = f"{who} {len(self.order_ids[who])}"
        terms, time_in_force = terms_of(how)
        return m.PlaceOrder(
            WHO[who],
            1,
            m.SIDE_BUY if verb == "buys" else m.SIDE_SELL,
            m.ORDER_TYPE_LIMIT if price else m.ORDER_TYPE_MARKET,
            time_in_force or (m.TIME_IN_FORCE_GTC if price else m.TIME_IN_FORCE_IOC),
            "post-only" in how,
            int(price or 0),
            int(lots),
            int(budget or 0),
            terms=terms,
        )

    def book(self) -> str:
        """The book, drawn."""
        waiting = [
            f"{NAMES[order.place.account_id]} {order.lock_remaining} {ASSETS[2 if order.place.side == m.SIDE_BUY else 1]}"
            for order in self.engine.open_orders(1)
            if order.state == m.ORDER_STATE_WAITING
        ]
        outside = f" ~ {', '.join(waiting)}" if waiting else ""
        return " ".join(f"{self._side(m.SIDE_BUY)} | {self._side(m.SIDE_SELL)}{outside}".split())

    def _side(self, side: int) -> str:
        levels: dict[int, list[str]] = {}
        for order in self.engine.open_orders(1):
            if order.place.side == side and order.state == m.ORDER_STATE_OPEN:
                hidden = self.engine.books[1].hidden.get(order.order_id, 0)
                shown = order.place.quantity_lots - order.filled_lots - hidden
                entry = f"{NAMES[order.place.account_id]} {shown}" + (f"+{hidden}" if hidden else "")
                levels.setdefault(order.place.price_ticks, []).append(entry)
        return ", ".join(f"{price} {' '.join(entries)}" for price, entries in levels.items())


def terms_of(how: list[str]) -> tuple[m.Terms | None, int]:
    """What the words after an order ask for, and its time in force if they say one."""
    terms, time_in_force, special = m.Terms(), 0, False
    for word in how:
        if word in TIMES:
            time_in_force = TIMES[word]
        elif word != "post-only":
            special = True
            name, _, number = word.rpartition("-")
            if word in OWN:
                terms.self_trade = OWN[word]
            elif name == "till":
                terms.expires_ns, time_in_force = int(number), m.TIME_IN_FORCE_GTD
            elif name in WAITS:
                terms.trigger, terms.trigger_source = WAITS[name]
                terms.trigger_ticks = int(number)
            elif name == "trail":
                terms.trigger, terms.trail_ticks = m.TRIGGER_TRAILING, int(number)
            elif name == "show":
                terms.display_lots = int(number)
            elif name == "least":
                terms.minimum_lots = int(number)
            else:
                assert word == "reprice", f"unreadable: {word}"
                terms.reprice = True
    return terms if special else None, time_in_force


def outcome(event: m.Event, owners: dict[int, str]) -> str:
    """What a command did, in words; `owners` names orders."""
    body = event.body
    if isinstance(body, m.Refused):
        return f"refused {body.reason}"
    if isinstance(body, m.MarketChanged):
        return STATE_NAMES[body.market.state]
    if isinstance(body, m.ReferencePriceSet):
        return f"told {body.price_ticks}"
    if isinstance(body, m.TimeAdvanced | m.LeaderStarted):
        return "later" if isinstance(body, m.TimeAdvanced) else "leads"
    if isinstance(body, m.CancelAfterSet):
        return "armed" if body.deadline_ns else "disarmed"
    if isinstance(body, m.OrdersChanged):
        told = [_named_step(step, event.command_id, owners) for step in body.steps]
        if body.market is not None:
            told.append(STATE_NAMES[body.market.state])
        return "; ".join([*told, f"refused {body.refused.reason}"] if body.refused is not None else told) or "nothing"
    assert isinstance(body, m.OrderPlaced | m.OrderCanceled)
    return _step(body.order, body.trades if isinstance(body, m.OrderPlaced) else [])


def _named_step(step: m.OrderChanged, command_id: int, owners: dict[int, str]) -> str:
    told = _step(step.order, step.trades)
    return told if step.order.order_id == command_id else f"{owners[step.order.order_id]}: {told}"


def _step(order: m.Order, trades: list[m.Trade]) -> str:
    left = order.place.quantity_lots - order.filled_lots
    if order.state == m.ORDER_STATE_WAITING:
        end = f"waits {left}"
    elif order.state == m.ORDER_STATE_OPEN:
        end = f"rests {left}"
    elif order.state == m.ORDER_STATE_FILLED:
        end = "filled" if left == 0 and order.cancel_cause == 0 else f"filled with {left} left"
    else:
        end = f"canceled {left} {CAUSES[order.cancel_cause]}"
    told = ", ".join(f"{t.quantity_lots} @ {t.price_ticks} {NAMES[t.maker_account_id]}" for t in trades)
    return f"{told}: {end}" if told else end


def drawn_locks(book: str) -> dict[tuple[int, int], int]:
    """What the drawn orders set aside, where one lot at price 1 is one base unit: bids in USD (2), asks in BTC (1)."""
    locks: dict[tuple[int, int], int] = {}
    book, _, outside = book.partition("~")
    for entry in filter(None, outside.split(",")):
        name, amount, asset = entry.split()
        key = WHO[name], 1 if asset == "BTC" else 2
        locks[key] = locks.get(key, 0) + int(amount)
    for asset_id, side in zip((2, 1), book.split("|"), strict=True):
        for level in filter(None, (text.strip() for text in side.split(","))):
            price, *entries = level.split()
            for name, lots in zip(entries[::2], entries[1::2], strict=True):
                key = WHO[name], asset_id
                locks[key] = locks.get(key, 0) + sum(map(int, lots.split("+"))) * (int(price) if asset_id == 2 else 1)
    return locks


def play(scenario: Scenario, restart: bool = False) -> None:
    """Plays every row. Raises AssertionError at the first that is not as written.

    With `restart` the engine comes out of its own snapshot before every row.
    """
    floor = Floor(0 if scenario.title.startswith("Edition 0:") else m.EDITION)
    for row in scenario.rows:
        if restart:
            floor.engine = Engine.restore(floor.engine.snapshot())
        event = floor.say(row.command)
        where = f"{scenario.title}: {row.command}"
        assert outcome(event, floor.owners) == row.outcome, f"{where} => {outcome(event, floor.owners)}"
        assert floor.book() == row.book, f"{where} => {floor.book()}"
        assert floor.engine.locks() == drawn_locks(row.book), where
        floor.engine.validate()
