"""Text with everything in it that tokenizers stumble over: many scripts, emoji, odd spaces, control characters, code, numbers.

All of it is written here. `training_lines` is what the small tokenizers are trained on, `case_lines` what they are asked.
Only characters that Unicode 14 had assigned occur (and U+0378, U+E000, U+10FFFF), so that the answers do not depend on the
Unicode version of a regular expression library.
"""

import random
import unicodedata

SENTENCES = r"""
The river runs past the old mill, and nobody remembers who built it.
We don't know what they'll say; I've heard she's already gone, but you're welcome to ask.
A token is not a word, a word is not a thought, and a thought isn't always worth a token.
THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG WHILE IT'S RAINING. THEY'LL SEE.
Der Fluß fließt an der alten Mühle vorbei, und niemand weiß, wer sie gebaut hat.
Straßenbahnhaltestelle, Überraschung, Äpfel und größere Öfen.
La rivière passe devant le vieux moulin ; personne ne sait qui l'a bâti, c'est-à-dire qu'on l'a oublié.
El río pasa junto al viejo molino, ¿y quién lo construyó? ¡Nadie se acuerda!
O rio passa pelo velho moinho e ninguém sabe quem o construiu, não é?
Rzeka płynie obok starego młyna, a nikt nie pamięta, kto go zbudował. Zażółć gęślą jaźń.
Řeka teče kolem starého mlýna a nikdo neví, kdo ho postavil. Příliš žluťoučký kůň.
Nehir eski değirmenin yanından akar ve kimin yaptığını kimse bilmez. İstanbul ve ışık.
Dòng sông chảy qua cối xay cũ, và không ai nhớ người đã xây nó.
Joki virtaa vanhan myllyn ohi, eikä kukaan muista, kuka sen rakensi.
A folyó a régi malom mellett folyik, és senki sem tudja, ki építette. Árvíztűrő tükörfúrógép.
Áin rennur fram hjá gömlu myllunni og enginn man hver byggði hana. Þetta er ágætt.
Ο ποταμός περνά δίπλα από τον παλιό μύλο και κανείς δεν θυμάται ποιος τον έχτισε.
Река течёт мимо старой мельницы, и никто не помнит, кто её построил.
Річка тече повз старий млин, і ніхто не пам'ятає, хто його збудував. Їжак і ґанок.
Реката тече покрај старата воденица и никој не знае кој ја изградил.
Գետը հոսում է հին ջրաղացի կողքով, և ոչ ոք չի հիշում, թե ով է այն կառուցել։
მდინარე ძველ წისქვილთან მიედინება და არავის ახსოვს, ვინ ააშენა.
הנהר זורם ליד הטחנה הישנה, ואיש אינו זוכר מי בנה אותה. שָׁלוֹם
يجري النهر بجانب الطاحونة القديمة، ولا أحد يتذكر من بناها. بِسْمِ ١٢٣
رود از کنار آسیاب قدیمی می‌گذرد و هیچ‌کس نمی‌داند چه کسی آن را ساخت. ۴۵۶
دریا پرانی چکی کے پاس سے بہتا ہے اور کسی کو یاد نہیں کہ اسے کس نے بنایا۔
नदी पुरानी चक्की के पास से बहती है और किसी को याद नहीं कि इसे किसने बनाया। १२३
নদীটি পুরানো কলের পাশ দিয়ে বয়ে যায়, আর কেউ জানে না কে এটি বানিয়েছে।
ਨਦੀ ਪੁਰਾਣੀ ਚੱਕੀ ਕੋਲੋਂ ਵਗਦੀ ਹੈ ਅਤੇ ਕਿਸੇ ਨੂੰ ਯਾਦ ਨਹੀਂ।
ஆறு பழைய ஆலையின் அருகே ஓடுகிறது, அதை யார் கட்டினார் என்று யாருக்கும் தெரியாது.
నది పాత మిల్లు పక్కన ప్రవహిస్తుంది, దానిని ఎవరు కట్టారో ఎవరికీ గుర్తు లేదు.
ನದಿ ಹಳೆಯ ಗಿರಣಿಯ ಬಳಿ ಹರಿಯುತ್ತದೆ.
നദി പഴയ മില്ലിനരികിലൂടെ ഒഴുകുന്നു.
ගඟ පැරණි මෝල අසලින් ගලා යයි.
แม่น้ำไหลผ่านโรงสีเก่า และไม่มีใครจำได้ว่าใครเป็นคนสร้าง
ແມ່ນ້ຳໄຫຼຜ່ານໂຮງສີເກົ່າ
ទន្លេហូរកាត់ម៉ាស៊ីនកិនស្រូវចាស់
မြစ်သည် စက်ဟောင်းဘေးမှ စီးဆင်းသည်။
ཆུ་བོ་རྒྱུག་གི་འདུག
ወንዙ በአሮጌው ወፍጮ አጠገብ ይፈስሳል፤ ማን እንደሠራው ማንም አያስታውስም።
ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ
ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ
河水流过古老的磨坊，没有人记得是谁建造的。今天天气很好，我们去公园吧！
河水流過古老的磨坊，沒有人記得是誰建造的。「真的嗎？」他問。
川は古い水車小屋のそばを流れ、誰が建てたのか誰も覚えていない。カタカナとｶﾀｶﾅ。
강물은 오래된 방앗간 옆을 흐르고, 누가 지었는지 아무도 기억하지 못한다.
def forward(self, x):\n    return self.norm(x) + x * 0.5  # residual
for (int i = 0; i < n; ++i) {\n\tsum += a[i] * b[i];\n}\nreturn sum;
if (x == NULL || *x != 'a') { fprintf(stderr, "error: %s", msg); exit(1); }
{"name": "Ada", "born": 1815, "tags": ["maths", "engines"], "ok": true, "none": null}
<html><body class="main"><p>Hello &amp; welcome</p></body></html>
# Title\n\n* one\n* two\n  - nested\n\n```python\nprint('hi')\n```\n| a | b |\n|---|---|
SELECT name, COUNT(*) FROM users WHERE age >= 21 GROUP BY name ORDER BY 2 DESC;
In 2024 there were 1,234,567 visitors (+12.5%), each paying $3.99 or €4,50; 1e-5 and 0x1F too.
Call +44 20 7946 0958 at 10:30 on 2023-11-05, room 42B, 3rd floor.
E = mc², ∑ᵢ xᵢ ≤ ∞, ∀ε>0 ∃δ: |x−y|<δ ⇒ |f(x)−f(y)|<ε; ½ + ¼ = ¾, Ⅷ ≠ ⅷ, ①②③
naïve café résumé façade coöperate ŒUVRE ﬁnance ﬂow ǅ ß ẞ ſ K Å
She said: “It’s ‘fine’…” — and left – really?! «Oui», „ja“, 『はい』.
I love 🍕 and 🚀🚀🚀, 👩‍💻 works with 👨‍👩‍👧‍👦 in 🇩🇪🇯🇵; thumbs 👍🏽👍🏿, keycap 1️⃣ and ❤️‍🔥.
""".strip().split("\n")
SENTENCES = [line.replace("\\n", "\n").replace("\\t", "\t") for line in SENTENCES]

WORDS = sorted({word for line in SENTENCES for word in line.split()})

SPACES = [" "] * 12 + ["  ", "   ", "    ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", " \n", "\n ", " \t ", "\r\n\r\n  "]
ODD_SPACES = list("\u00a0\u1680\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u0085\x0b\x0c")
INVISIBLE = list("\u180e\u200b\u200c\u200d\u200e\u2060\u00ad\ufeff\ufe0f\u034f\u061c\u115f\u3164")
CONTROLS = [chr(c) for c in (*range(0x20), 0x7F, *range(0x80, 0xA0))]
EMOJI = ["😀", "😂", "🤷🏾‍♀️", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "🇺🇳", "🇫🇷🇮🇹", "1️⃣", "#️⃣", "❤️", "❤", "🫠", "👍🏽", "🧑‍🚀", "🀄", "♠️", "☃", "🇦"]
CONTRACTIONS = ["'s", "'S", "'t", "'RE", "'ve", "'m", "'LL", "'ll", "'d", "'D", "’s", "'ſ", "''s", "'", "'x", "'sé", "' s"]
NUMBERS = ["0", "7", "42", "123", "1234", "12345", "1234567890", "3.14", "1,000", "٣٤٥٦", "१२३४", "๑๒๓", "²³", "½", "ⅩⅡ", "①②", "〇", "𝟘𝟙𝟚𝟛", "1२٣", "一二三"]
PUNCTUATION = list("!\"#$%&()*+,-./:;<=>?@[]^_`{|}~\\") + ["...", "!!!", "?!", "--", "——", "。", "、", "！", "「", "」", "¿", "…", "©", "™", "→", "₿", "++", "=>", "/*", "*/", "://"]
# sequences that NFC changes: marks out of order, decomposed letters, Hangul Jamo, singletons, composition exclusions
DENORMAL = ["e\u0301", "a\u0323\u0307", "a\u0307\u0323", "q\u0307\u0323", "A\u030a", "\u212b", "\u2126", "\u212a", "\u1112\u1161\u11ab", "\u1100\u1161", "\uac00\u11a8", "\u0958", "\u09c7\u09be", "\u0344", "\u0340", "\u1e9b\u0323", "\u0439", "\u0438\u0306", "\u0db4\u0ddc", "\u0dd9\u0dcf\u0dca", "\u0f71\u0f72\u0f74", "\ufb1d", "\u2adc", "\uf900", "\u3099\u304b", "\u304b\u3099", "\U0002f800", "\U0001d15e", "o\u0302\u0323\u0301", "\u0300", "a\u05ae\u0300\u0315", "n\u0303o"]
ODD_CHARACTERS = ["\ue000", "\u0378", "\U0010ffff", "\ufffd", "\U000e0001", "\u2581", "▁▁", "Ġ", "Ċ", "Ã©", "\U0001d400", "𒀀", "𐍈", "\u0e01\u0e33", "\u0300\u0301"]
RANGES = [(0x20, 0x7F)] * 4 + [(0xA0, 0x250), (0x250, 0x370), (0x370, 0x530), (0x530, 0x700), (0x900, 0xE00), (0xE00, 0x1200), (0x1200, 0x1800), (0x1800, 0x2000), (0x2000, 0x2C00), (0x3000, 0x3200), (0x4E00, 0x9FFF), (0xA000, 0xABFF), (0xAC00, 0xD7A3), (0xF900, 0xFFF0), (0x10000, 0x10400), (0x1D400, 0x1D800), (0x1F300, 0x1F650), (0x20000, 0x2A000)]  # fmt: skip


def training_lines():
    pick = random.Random(1)
    lines = list(SENTENCES) * 6
    for _ in range(1500):
        start = pick.randrange(len(SENTENCES))
        words = SENTENCES[start].split(" ")
        cut = pick.randrange(len(words))
        lines.append(" ".join(words[cut:] + words[:cut]))
    lines += [" " * n + "x = 1" for n in (2, 4, 8, 12, 16)] * 20
    return lines


def random_characters(pick, count):
    text = []
    while len(text) < count:
        low, high = pick.choice(RANGES)
        character = chr(pick.randrange(low, high))
        if unicodedata.category(character) not in ("Cn", "Cs"):
            text.append(character)
    return "".join(text)


def piece(pick, added):
    kind = pick.randrange(24)
    if kind < 9:
        return pick.choice(WORDS)
    if kind == 9:
        return pick.choice(WORDS).swapcase()
    if kind == 10:
        return pick.choice(["I", "they", "L", "été", "我", "x1"]) + pick.choice(CONTRACTIONS)
    if kind == 11:
        return pick.choice(NUMBERS) + pick.choice(["", "", "km", "€"])
    if kind in (12, 13):
        return pick.choice(PUNCTUATION)
    if kind == 14:
        return pick.choice(EMOJI)
    if kind in (15, 16):
        return pick.choice(DENORMAL)
    if kind == 17:
        return pick.choice(CONTROLS)
    if kind == 18:
        return pick.choice(INVISIBLE)
    if kind == 19:
        return pick.choice(ODD_SPACES)
    if kind == 20:
        return pick.choice(ODD_CHARACTERS)
    if kind == 21:
        return random_characters(pick, pick.randrange(1, 5))
    if kind == 22:
        return pick.choice(WORDS) + pick.choice(PUNCTUATION) + pick.choice(WORDS)
    return pick.choice(added) if added else pick.choice(WORDS)


def added_token_line(pick, added):
    """Added tokens whole, doubled, cut short, in other case, glued to words, with spaces about them."""
    parts = []
    for _ in range(pick.randrange(1, 5)):
        token = pick.choice(added)
        shape = pick.randrange(7)
        if shape == 0:
            token = token[: pick.randrange(1, len(token) + 1)]
        elif shape == 1:
            token = token[pick.randrange(len(token)) :]
        elif shape == 2:
            token = token.swapcase()
        elif shape == 3:
            token = token + token
        parts.append(pick.choice(["", "", " ", "  ", "\n", " \t", "a", "é", "_", "1", "."]) + token)
        parts.append(pick.choice(["", " ", "  ", "\n", "b", "ß", "_", "2", "!"]) + pick.choice(["", pick.choice(WORDS)]))
    return "".join(parts)


def case_lines(seed, count, added):
    pick = random.Random(seed)
    lines = ["", " ", "  ", "\n", "\r\n", "a", " a", "a ", "é", "e\u0301", "\x00", "\u180e", "▁", " ▁ ", "\U0010ffff"]
    lines += CONTROLS + ODD_SPACES + INVISIBLE + DENORMAL + ODD_CHARACTERS + EMOJI + NUMBERS
    lines += [" " * n for n in (3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 64, 100, 301)]
    lines += [" " * 50 + "x", "x" + " " * 50, "\n" * 40, "\r\n" * 9 + "\r\r\n", "\t" * 11 + "x", " \n" * 7, "a\u180e b \u180e", "a\u00a0\u00a0b"]
    lines += ["a" * 300, "ab" * 200, "ha" * 30 + "!" * 40, "1" * 50, "的" * 60, "=" * 99, "\u0301" * 30, "🙂" * 20, "\x00" * 9, "-" * 5 + "\n" + "-" * 5]
    lines += list(SENTENCES)
    lines += added + [f" {t}" for t in added] + [f"{t} " for t in added]
    while len(lines) < count:
        shape = pick.randrange(20)
        if shape == 0:
            lines.append(random_characters(pick, pick.randrange(1, 25)))
        elif shape in (1, 2, 3) and added:
            lines.append(added_token_line(pick, added))
        elif shape == 4:
            lines.append("".join(pick.choice(SPACES + ODD_SPACES + INVISIBLE) for _ in range(pick.randrange(1, 9))))
        elif shape == 5:
            sentence = pick.choice(SENTENCES)
            lines.append(unicodedata.normalize(pick.choice(["NFD", "NFKD", "NFC"]), sentence))
        else:
            parts = []
            for _ in range(pick.randrange(1, 9)):
                parts += [piece(pick, added), pick.choice(SPACES) if pick.random() < 0.7 else ""]
            lines.append("".join(parts))
    return lines
