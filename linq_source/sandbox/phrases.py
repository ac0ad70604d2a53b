"""The words believable conversations are made of."""

from __future__ import annotations

REACTIONS = ("love", "like", "dislike", "laugh", "emphasize", "question")

FIRST_NAMES = (
    "Amara", "Benoît", "Chiara", "Dmitri", "Eszter", "Farah", "Grace", "Hiro", "Ingrid", "Jamal",
    "Keiko", "Łukasz", "Marisol", "Noor", "Oluwaseun", "Priya", "Quentin", "Rosa", "Søren", "Tova",
)  # fmt: skip
LAST_NAMES = (
    "Abara", "Bianchi", "Castro", "Dubois", "Eriksen", "Fischer", "Goldberg", "Haddad", "Ivanov",
    "Jones", "Kowalski", "Lindqvist", "Mehta", "Nakamura", "O'Neill", "Park", "Quispe", "Reyes",
)  # fmt: skip
GROUP_NAMES = (
    "Northside launch", "Spring trip ☀️", "Site visit Thursday", "Renewals \"Q2\"", "Book club",
    "Delivery crew", "Wedding 💍", "Board + finance", "Lake house", "5-a-side",
)  # fmt: skip

PHRASES = (
    "Good morning! Are we still on for today?",
    "Yes, see you at ten.",
    "Running five minutes late, sorry",
    "ok",
    "No worries.",
    "Can you send me the quote again?",
    "Sent. It's the second attachment.",
    "Thanks so much 🙏",
    "👍🏽",
    "👨‍👩‍👧‍👦 all of us are coming!",
    "🏳️‍🌈🎉",
    "Perfect ❤️‍🔥",
    "مرحبا، متى يصل الطلب؟",
    "הכול בסדר, נדבר מחר",
    "明日の会議は午後三時からです。",
    "好的，没问题，我马上发给你",
    "내일 봬요!",
    "Cafe\u0301 or the\u0301 after lunch?",
    "Zażółć gęślą jaźń",
    'She said "call me back", so I did.',
    "The files are in C:\\shared\\quotes\\2026",
    "Three things:\n1. the invoice\n2. the address\n3. the date",
    "It's 50% off; that's $1,250.00 for both",
    "https://example.com/track?order=8841&ref=sms#status",
    "Could you confirm the delivery window?",
    "Between 2 and 4 in the afternoon, Tuesday.",
    "Who is bringing the keys?",
    "I am!",
    "haha",
    "Let me check with the warehouse and get back to you this afternoon.",
    "Any news?",
    "They shipped it yesterday, the tracking number follows.",
    "\tIndented, and with a trailing space ",
    "NULL",
    "It costs 3 < 4 & 5 > 2, 'obviously'",
    "Happy birthday!! 🎂🎈",
)

FILES = (
    ("document.pdf", "application/pdf"),
    ("IMG_4021.heic", "image/heic"),
    ("photo.jpg", "image/jpeg"),
    ("voice note.m4a", "audio/mp4"),
    ("quote 2026.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("帳票.pdf", "application/pdf"),
    ("clip.mov", "video/quicktime"),
)
