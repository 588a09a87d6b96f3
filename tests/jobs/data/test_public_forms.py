"""The forms that public data sets come in, each in a few made rows: all of them are written, or counted with why."""

from converted import Files, rows_of
from riverrank.state.records.incoming import Event, Item


def seen(files: Files) -> list[tuple[str, str, str | None, float | None, int]]:
    return [(e.type, e.user_id, e.item_id, e.value, e.ts) for e in files.events()]


def test_retail_rocket_names_its_events_in_its_own_words(files: Files) -> None:
    source = files.put(
        "events.csv",
        "timestamp,visitorid,event,itemid,transactionid\n"
        "1430000000001,71,view,9001,\n"
        "1430000000002,71,addtocart,9001,\n"
        "1430000000003,71,transaction,9001,55\n"
        "1430000000004,72,wishlist,9002,\n",
    )
    flags = ("--map", "user=visitorid,item=itemid,ts=timestamp,type=event", "--ts-unit", "ms")
    report = files.command("csv", source, *flags, "--types", "addtocart=cart,transaction=purchase")
    assert seen(files) == [
        ("view", "71", "9001", None, 1430000000001),
        ("cart", "71", "9001", None, 1430000000002),
        ("purchase", "71", "9001", None, 1430000000003),
    ]
    assert (rows_of(report), report.bad_rows) == (4, 1)
    assert report.first_bad is not None
    assert report.first_bad.startswith("events.csv, line 5: type: expected one of view, ")
    assert "got 'wishlist' (--types" in report.first_bad


def test_yoochoose_has_no_header_and_two_files_whose_events_never_share_an_id(files: Files) -> None:
    clicks = files.put(
        "clicks.dat",
        "31,2014-05-01T08:00:00.125Z,7001,0\n31,2014-05-01T08:00:59.000Z,7002,S\n32,2014-05-02T09:00:00.001Z,7001,4\n",
    )
    report = files.command("csv", clicks, "--columns", "user,ts,item,_", "--ts-unit", "iso")
    assert (rows_of(report), report.bad_rows) == (3, 0)
    clicked = files.events()
    assert clicked[0] == Event("clicks.dat-click-1", "click", "31", 1398931200125, item_id="7001")
    buys = files.put("buys.dat", "31,2014-05-01T08:02:00.000Z,7002,1099,1\n31,2014-05-01T08:02:00.000Z,7001,0,0,9\n")
    report = files.command("csv", buys, "--columns", "user,ts,item,_,_", "--ts-unit", "iso", "--type", "purchase")
    assert (rows_of(report), report.first_bad) == (2, "buys.dat, line 2: expected 5 columns, got 6")
    assert not {e.event_id for e in clicked} & {e.event_id for e in files.events()}
    again = files.events()
    files.command("csv", buys, "--columns", "user,ts,item,_,_", "--ts-unit", "iso", "--type", "purchase")
    assert files.events() == again


def test_taobao_has_no_header_and_some_types_are_left_out_on_purpose(files: Files) -> None:
    source = files.put(
        "UserBehavior.csv",
        "5,801,40,pv,1512000000\n5,801,40,fav,1512000060\n5,802,41,cart,1512000120\n6,801,40,buy,1512000180\n",
    )
    flags = ("--columns", "user,item,_,type,ts", "--types", "pv=view,buy=purchase", "--types", "fav=")
    report = files.command("csv", source, *flags)
    assert [(e.type, e.event_id) for e in files.events()] == [
        ("view", "UserBehavior-view-1"),
        ("cart", "UserBehavior-cart-3"),
        ("purchase", "UserBehavior-purchase-4"),
    ]
    assert (rows_of(report), report.left_out, report.bad_rows) == (4, {"fav": 1}, 0)
    assert "1 rows left out on purpose, by --types: 1 fav" in files.run("csv", source, *flags)[2]


def test_movielens_has_two_colons_and_a_catalogue_of_its_own(files: Files) -> None:
    source = files.put("ratings.dat", "1::10::5::978300000\n1::11::3.5::978300060\n2::10::4::978300120\n")
    movies = files.put(
        "movies.csv", 'movieId,title,genres\n10,"Dunes, The (1999)",Adventure|Sci-Fi\n12,Alone (2001),Drama\n'
    )
    flags = ("--columns", "user,item,value,ts", "--separator", "::", "--type", "rate")
    product_map = ("--product-map", "item=movieId,title=title,categories=genres")
    report = files.command("csv", source, *flags, "--products", str(movies), *product_map)
    assert (rows_of(report), report.bad_rows, report.items) == (3, 0, 3)
    assert seen(files)[1] == ("rate", "1", "11", 3.5, 978300060000)
    assert files.items() == {
        "10": Item("10", 0, "Dunes, The (1999)", categories=("Adventure", "Sci-Fi")),
        "12": Item("12", 0, "Alone (2001)", categories=("Drama",)),
        "11": Item("11", 0),
    }


def test_movielens_of_old_has_a_catalogue_without_header_in_latin_1(files: Files) -> None:
    source = files.put("ratings.dat", "1::10::5::978300000\n")
    movies = files.put("movies.dat", "10::Été, L' (1999)::Drama|Romance\n", "latin-1")
    flags = ("--columns", "user,item,value,ts", "--separator", "::", "--type", "rate", "--products", str(movies))
    of_products = ("--product-columns", "item,title,categories", "--product-separator", "::")
    files.command("csv", source, *flags, *of_products, "--product-encoding", "latin-1")
    assert files.items() == {"10": Item("10", 0, "Été, L' (1999)", categories=("Drama", "Romance"))}
    told = files.fails(1, source, *flags, *of_products)
    assert "movies.dat: no usable row (movies.dat, line 1: it has bytes that are no utf-8 (--product-encoding" in told


BEHAVIORS = (
    "1\tU7\t11/11/2019 9:05:58 AM\tN1 N2\tN3-1 N4-0 N5-1\n"
    "2\tU8\t11/11/2019 12:00:00 PM\t\tN4-0 N3-0\n"
    "3\tU8\t11/11/2019 12:30:00 PM\tN1\tN4-2\n"
    "4\tU8\t11/12/2019 12:00:00 AM\tN1\tN9\n"
)


def test_mind_gives_impressions_and_clicks_on_them(files: Files) -> None:
    files.put("behaviors.tsv", BEHAVIORS)
    files.put(
        "news.tsv", 'N3\tnews\tworld\tSaid "so\tAll of it\thttp://x\t[]\t[]\nN4\tsport\t\tGoal\t\thttp://y\t[]\t[]\n'
    )
    report = files.command("mind", files.folder)
    events = files.events()
    assert [(e.type, e.user_id, e.item_id or e.items, e.ts) for e in events] == [
        ("impression", "U7", ("N3", "N4", "N5"), 1573463158000),
        ("click", "U7", "N3", 1573463158001),
        ("click", "U7", "N5", 1573463158001),
        ("impression", "U8", ("N4", "N3"), 1573473600000),
        ("impression", "U8", ("N9",), 1573516800000),
    ]
    assert len({e.event_id for e in events}) == 5
    assert len({e.slate_id for e in events[:3]}) == 1
    assert (report.bad_rows, report.items) == (1, 4)
    assert report.first_bad == "behaviors.tsv, line 3: impressions: expected ITEM-0 or ITEM-1, got the label '2'"
    assert files.items()["N3"] == Item("N3", 0, 'Said "so', "All of it", ("news", "world"))
    assert files.items()["N4"] == Item("N4", 0, "Goal", categories=("sport",))
    told = files.fails(2, files.folder, "--separator", "tab", name="mind")
    assert "--separator: how mind is to be read is known; only csv takes it" in told


def test_online_retail_has_returns_which_are_no_purchases(files: Files) -> None:
    source = files.put(
        "retail.csv",
        "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n"
        '500001,A1,"LAMP, RED",6,2010-01-05 09:15:00,2.5,900,France\n'
        "C500002,A1,,-6,2010-01-06 10:00:00,2.5,900,France\n"
        "500003,B2,,1,2010-01-06 11:00:00,0.5,901,France\n"
        "500004,B2,CUP,0,2010-01-06 12:00:00,0.5,901,France\n"
        "500005,B2,CUP,2,2010-01-06 13:00:00,0.5,,France\n"
        "500006,B2,MUG,2,2010-01-06 14:00:00,0.5,900,France\n",
    )
    columns = "user=Customer ID,item=StockCode,ts=InvoiceDate,value=Quantity,title=Description"
    flags = ("--map", columns, "--ts-unit", "iso", "--type", "purchase", "--timezone", "Europe/Paris")
    report = files.command("csv", source, *flags)
    assert seen(files) == [
        ("purchase", "900", "A1", 6.0, 1262679300000),
        ("purchase", "901", "B2", 1.0, 1262772000000),
        ("purchase", "900", "B2", 2.0, 1262782800000),
    ]
    assert (rows_of(report), report.returns, report.bad_rows) == (6, 2, 1)
    assert report.first_bad is not None and report.first_bad.startswith("retail.csv, line 6: user_id: ")
    assert files.items()["B2"] == Item("B2", 0, "MUG")  # the first row of it had no title
    assert "2 returns left out" in files.run("csv", source, *flags)[2]


def test_other_negative_values_stay(files: Files) -> None:
    source = files.put("log.csv", "user_id,item_id,ts,type,value\na,i,1,rate,-2\na,j,2,view,-1\na,i,3,purchase,\n")
    report = files.command("csv", source, "--map", "type=type,value=value")
    assert [(e.type, e.value) for e in files.events()] == [("rate", -2.0), ("view", -1.0), ("purchase", None)]
    assert report.returns == 0


def test_h_and_m_has_dates_without_a_time(files: Files) -> None:
    source = files.put(
        "transactions.csv",
        "t_dat,customer_id,article_id,price,sales_channel_id\n"
        "2018-09-20,aa01,0663713001,0.05,2\n2018-09-21,aa01,0541518023,0.03,2\n20.9.2018,bb02,0541518023,0.03,1\n",
    )
    articles = files.put("articles.csv", "article_id,prod_name,colour,group\n0663713001,Strap top,Black,Ladies;Tops\n")
    product_map = "item=article_id,title=prod_name,categories=group,attribute:colour=colour"
    flags = ("--map", "user=customer_id,item=article_id,ts=t_dat", "--ts-unit", "iso", "--type", "purchase")
    report = files.command("csv", source, *flags, "--products", str(articles), "--product-map", product_map)
    assert [e.ts for e in files.events()] == [1537401600000, 1537488000000]
    assert rows_of(report) == 3
    assert report.first_bad is not None and "transactions.csv, line 4: ts: expected a time such as" in report.first_bad
    assert files.items()["0663713001"] == Item(
        "0663713001", 0, "Strap top", categories=("Ladies", "Tops"), attributes={"colour": "Black"}
    )
    files.command("csv", source, *flags, "--timezone", "Europe/Paris")
    assert files.events()[0].ts == 1537401600000 - 2 * 3_600_000
