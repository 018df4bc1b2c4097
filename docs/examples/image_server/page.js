// Purges a photo, asks for its thumbnail again, and shows both answers after loading the page anew.
const receipt = document.getElementById('receipt');
const last = sessionStorage.getItem('receipt');
if (last) {
  receipt.textContent = last;
  receipt.hidden = false;
  sessionStorage.removeItem('receipt');
}
document.addEventListener('click', async event => {
  const photo = event.target.dataset.photo;
  if (!photo) return;
  event.target.disabled = true;
  const purged = await fetch('/img/' + photo, { method: 'DELETE' });
  const text = await purged.text();
  const thumbnail = event.target.parentElement.querySelector('img').src;
  const again = await fetch(thumbnail, { cache: 'reload' });
  const path = new URL(thumbnail).pathname;
  sessionStorage.setItem('receipt',
    'DELETE ' + path + '\n' + text + '\nGET ' + path + '\nx-cache: ' + again.headers.get('x-cache'));
  location.reload();
});
